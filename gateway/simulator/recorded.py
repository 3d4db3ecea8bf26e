"""
A recorded stream, played again: NDJSON, one message of a carrier's socket a line, in the order of arrival.

It is played by its frames' timestamps, under new ids, so that one recording makes many calls.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.call import Carrier
from gateway.simulator.streams import Leave, Say, Step, Stream

_NO_START: Final = "no `start` message with a call's id in it"


class RecordingFault(ValueError):
    """The file is no recording of a stream; the message says where it is not."""


class _Media(msgspec.Struct):
    timestamp: Any = None


class _Line(msgspec.Struct):
    event: str
    media: _Media | None = None
    start: dict[str, Any] | None = None
    stream_id: Any = None


class Recording(msgspec.Struct, frozen=True):
    """The messages of one stream."""

    carrier: Carrier
    call_id: str
    stream_id: str
    messages: tuple[tuple[float, bytes], ...]
    """When each is due, in seconds, and its text."""

    @property
    def seconds(self) -> float:
        """From the first message to the last."""
        return self.messages[-1][0]

    def streams(self, call_id: str, stream_id: str) -> list[Stream]:
        """The recording as another call's one stream."""
        return [Stream(stream_id, self._steps(call_id, stream_id))]

    def _steps(self, call_id: str, stream_id: str) -> Iterator[Step]:
        new = ((self.call_id.encode(), call_id.encode()), (self.stream_id.encode(), stream_id.encode()))
        for due, text in self.messages:
            said = text
            for old, fresh in new:
                said = said.replace(old, fresh) if old else said
            yield Say(due, said)
        yield Leave(self.seconds, "close")


def read(path: Path) -> Recording:
    """
    Read a recording.

    Raises:
        RecordingFault: It is none.
        OSError: It cannot be read.
    """
    messages: list[tuple[float, bytes]] = []
    started: _Line | None = None
    first_ms: int | None = None
    due = 0.0
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=_Line)
            if line.media is not None and line.event == "media":
                at_ms = int(line.media.timestamp)
                first_ms = at_ms if first_ms is None else first_ms
                due = max(due, (at_ms - first_ms) / 1000)  # order is kept, also where the carrier's was not
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise RecordingFault(f"{path}, line {number}: {error}") from error
        if line.start is not None and started is None:
            started = line
        messages.append((due, text))
    start = (started.start if started is not None else None) or {}
    call_id = start.get("call_control_id") or start.get("callSid")
    if started is None or not isinstance(call_id, str) or not call_id:
        raise RecordingFault(f"{path}: {_NO_START}")
    stream_id = start.get("streamSid") or started.stream_id
    carrier: Carrier = (
        "telnyx" if "call_control_id" in start else "twilio" if call_id.startswith("CA") else "signalwire"
    )
    return Recording(carrier, call_id, stream_id if isinstance(stream_id, str) else "", tuple(messages))
