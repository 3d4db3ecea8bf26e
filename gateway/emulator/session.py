"""
The protocol of one session, pure: what the client sent goes in with its time, what follows comes out.

    CONNECTED ──begin──▶ OPEN ──Terminate──▶ TERMINATING ──terminated──▶ OVER
        └───────────────────┴── a refusal, inactivity, the cap ──────────▶ OVER

Time is monotonic seconds. Audio and orders that come before `Begin` are kept for it, and noted as a violation.
"""

import json
from enum import Enum
from typing import Any, Final, NamedTuple

from gateway.emulator import messages
from gateway.emulator.faults import Faults
from gateway.emulator.ledger import Session as Line
from gateway.emulator.messages import Message
from gateway.emulator.parameters import Parameters, Refusal, invalid

SHORTEST_MS: Final = 50
LONGEST_MS: Final = 1000
SHORT_FOR_MS: Final = 1000
"""So much audio in frames too short is let pass: the live service closes after about 49 frames of 20 ms."""


class State(Enum):
    CONNECTED = "CONNECTED"
    OPEN = "OPEN"
    TERMINATING = "TERMINATING"
    OVER = "OVER"


class Hear(NamedTuple):
    """Audio to be heard, in order."""

    payload: bytes
    duration_ms: float


class Force(NamedTuple):
    """The open turn ends here."""


class Configure(NamedTuple):
    """The parameters from here on."""

    parameters: Parameters


class Finish(NamedTuple):
    """What came is to be heard to its end, then the session ends as it should."""


Step = Hear | Force | Configure | Finish


class Protocol:
    """
    One session's state. `line` is its entry in the ledger, kept here.

    Everything that ends the session against the client's will is raised as a `Refusal`.
    """

    def __init__(self, parameters: Parameters, knobs: Faults, line: Line) -> None:
        self.parameters = parameters
        self.line = line
        self.state = State.CONNECTED
        self._knobs = knobs
        self._begun = 0.0
        self._message = 0.0
        self._cap = 0.0
        self._heartbeat = 0.0
        self._short_ms = 0.0
        self._speech = False

    def begin(self, now: float, unix: float, cap_seconds: float) -> Message:
        """Open the session; it will live *cap_seconds*."""
        self.state = State.OPEN if self.state is State.CONNECTED else self.state
        self._begun = self._message = self._heartbeat = now
        self._cap = cap_seconds
        expires_at = int(unix + cap_seconds - 2)  # live: 10798 for a cap of 10800, 58 for one of 60
        self.line.begun_at, self.line.expires_at = unix, float(expires_at)
        return messages.begin(self.line.id, expires_at, self.parameters.configuration)

    def receive_audio(self, now: float, unix: float, payload: bytes) -> list[Step]:
        """
        Take a binary message.

        Raises:
            Refusal: With 3007, if a frame is too long, too many are too short, or they come too fast.
        """
        if not self._admits(now, unix, "audio"):
            return []
        if not self.parameters.bytes_a_second:
            self.line.came(unix, len(payload), 0.0)
            return [Hear(payload, 0.0)]
        duration_ms = len(payload) * 1000 / self.parameters.bytes_a_second
        self.line.came(unix, len(payload), duration_ms)
        if self.parameters.encoding == "pcm_s16le" and len(payload) % 2:
            self.line.violate("half a sample")
        if duration_ms > LONGEST_MS:
            self.line.long_frames += 1
            raise _duration_violation(duration_ms)
        # The last frame before Terminate may be short: a short one is held against the client by the next.
        if self._short_ms >= SHORT_FOR_MS:
            raise _duration_violation(duration_ms)
        if duration_ms < SHORTEST_MS:
            self.line.short_frames += 1
            self._short_ms += duration_ms
            if self._knobs.strict_frames:
                raise _duration_violation(duration_ms)
        else:
            self._short_ms = 0.0
        elapsed = max(0.0, now - self._begun) if self.state is State.OPEN else 0.0
        if self.line.audio_ms / 1000 - elapsed > self._knobs.ahead_seconds:
            self.line.too_fast = True
            received = f"Received {self.line.audio_ms / 1000:.1f} sec. audio in {elapsed:.1f} sec"
            raise Refusal(3007, f"Audio Transmission Rate Exceeded: {received}")
        return [Hear(payload, duration_ms)]

    def receive_text(self, now: float, unix: float, text: str) -> list[Step]:
        """
        Take a text message.

        Raises:
            Refusal: With 3006, if it is not one of the five, or asks for what cannot be.
        """
        try:
            message = json.loads(text)
        except ValueError as error:
            raise invalid(f"Invalid JSON: {error}") from None
        if not isinstance(message, dict):
            raise invalid(f"Invalid Message: {json.dumps(message)[:100]}")
        kind = message.get("type")
        if not self._admits(now, unix, str(kind)[:40]):
            return []
        match kind:
            case "Terminate":
                self.state = State.TERMINATING
                self.line.terminated_at = unix
                return [Finish()]
            case "ForceEndpoint":
                return [Force()]
            case "KeepAlive":
                self.line.keepalives += 1
                return []
            case "UpdateConfiguration":
                self.parameters = self.parameters.updated(message)
                self.line.parameters = self.parameters
                self.line.updates.append({key: value for key, value in message.items() if key != "type"})
                return [Configure(self.parameters)]
        raise invalid(f"Invalid Message Type: {str(kind)[:100]}")

    def _admits(self, now: float, unix: float, what: str) -> bool:
        """Note the message; False where it comes too late to count."""
        if self.state in (State.TERMINATING, State.OVER):
            self.line.violate(f"{what} after Terminate")
            return False
        self._message = now
        self.line.last_client_message_at = unix
        if self.line.begun_at is None and what == "audio":
            self.line.violate("audio before Begin")
        return True

    def heard(self, *, speech: bool) -> None:
        """Tell whether somebody spoke, for the next heartbeat."""
        self._speech = self._speech or speech

    def due(self, now: float, heard_ms: float) -> list[Message]:
        """
        What time alone brings, after `begin`.

        Raises:
            Refusal: If nobody sent anything for too long, or the session has reached its cap.
        """
        if self.state is State.OVER or self.line.begun_at is None:
            return []
        if now >= self._begun + self._cap:
            raise Refusal(3008, "Session Expired: Maximum session duration exceeded", "max_duration")
        idle = self.parameters.inactivity_timeout
        if self.state is State.OPEN and idle is not None and now >= self._message + idle:
            text = f"Session terminated due to inactivity: No messages received for {idle} seconds"
            raise Refusal(3006, text, "inactivity")
        if not self.parameters.flag("session_heartbeat"):
            self._heartbeat = now
        if now < self._heartbeat + self._knobs.heartbeat_seconds:
            return []
        self._heartbeat += self._knobs.heartbeat_seconds
        lasted_ms = (now - self._begun) * 1000
        speech = 0.999999 if self._speech else 0.001
        self._speech = False
        return [messages.heartbeat(int(self.line.audio_ms), int(lasted_ms), heard_ms / max(1.0, lasted_ms), speech)]

    def next_due(self) -> float:
        """When to ask `due` again; a message may put it off, an update may bring it forward."""
        times = [self._begun + self._cap]
        if self.parameters.inactivity_timeout is not None and self.state is State.OPEN:
            times.append(self._message + self.parameters.inactivity_timeout)
        if self.parameters.flag("session_heartbeat"):
            times.append(self._heartbeat + self._knobs.heartbeat_seconds)
        return min(times)

    def terminated(self, unix: float) -> Message:
        """The last message of a session that was ended as it should be."""
        self.state = State.OVER
        self.line.termination_sent_at = unix
        whole = "float_durations" not in self._knobs.malformed
        return messages.termination(self.line.audio_ms / 1000, unix - self.line.opened_at, whole=whole)


def _duration_violation(duration_ms: float) -> Refusal:
    violation = f"Input Duration Violation: {duration_ms:.1f} ms. Expected between {SHORTEST_MS} and {LONGEST_MS} ms"
    return Refusal(3007, f"Input Duration Error: {violation}")


class Pace:
    """How fast a session is heard: live audio at once, backlog at *speed* times real time."""

    def __init__(self, speed: float | None, now: float) -> None:
        self._speed = speed
        self._credit_ms = 1000.0
        self._at = now

    def wait_seconds(self, now: float, duration_ms: float) -> float:
        """How long a piece of audio must wait; call it once a piece, and wait."""
        if self._speed is None:
            return 0.0
        self._credit_ms = min(1000.0, self._credit_ms + (now - self._at) * 1000 * self._speed) - duration_ms
        self._at = now
        return max(0.0, -self._credit_ms / 1000 / self._speed)


def as_text(message: Any) -> str:
    """JSON as the service writes it."""
    return json.dumps(message, separators=(",", ":"))
