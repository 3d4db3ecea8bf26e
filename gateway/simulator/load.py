"""
The load: many calls at real pace, each counted to its last word.

`N calls` are made once, or kept up for a time: as one ends another begins. New ones come at no more than *rate* a second.
What came of them is added up in a `Tally` as they end, so that a day's run needs no more memory than a minute's.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.call import Carrier, Track
from gateway.emulator import tones
from gateway.media.messages import Encoding
from gateway.simulator import signalwire, telnyx, twilio
from gateway.simulator.audio import SAMPLES_PER_MS, Sound
from gateway.simulator.check import CallCheck
from gateway.simulator.count import Count, compare, settled
from gateway.simulator.frames import CarrierFaults
from gateway.simulator.handshake import Secrets
from gateway.simulator.player import Played, Watch, play
from gateway.simulator.receiver import Receiver
from gateway.simulator.recorded import Recording
from gateway.simulator.streams import Stream

SETTLE_SECONDS: Final = 60.0
"""How long a call's `call.ended` may take from its last frame."""
_PAUSE_SECONDS: Final = 1.0
"""After a call that could not be made."""
_MOST_TROUBLES: Final = 20


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is played."""

    base: str
    """`ws://HOST:PORT` of the carriers' port."""
    carrier: Carrier = "twilio"
    calls: int = 1
    rate: float = 5.0
    """New calls a second at most."""
    lasting_seconds: float | None = None
    """None: each call is made once. Else so many are kept up for so long."""
    sound: Callable[[int], Sound | Recording]
    """The audio of the n-th call."""
    secrets: Secrets
    path_tokens: bool = False
    parameters: Mapping[str, str] = {}
    faults: CarrierFaults = CarrierFaults()
    mid_word: bool = False
    """Hang up in the middle of a word."""
    encoding: Encoding = "PCMU"
    """Telnyx only, as is the next."""
    sizes: tuple[int, ...] = telnyx.ODD_SIZES


@dataclass
class Tally:
    """What came of the calls so far."""

    watch: Watch = field(default_factory=Watch)
    started: int = 0
    running: int = 0
    played: int = 0
    """To their end, as the carrier wanted."""
    refused: int = 0
    unreachable: int = 0
    lost: int = 0
    """Cut by the gateway in mid-stream."""
    answered: int = 0
    """Calls of which something was sent back, on a stream that is one-way."""
    leg_seconds: float = 0.0
    ended: int = 0
    """`call.ended` arrived."""
    unended: int = 0
    """It did not, in time."""
    events: int = 0
    repeated: int = 0
    gaps_ms: int = 0
    zombies: int = 0
    sessions: int = 0
    cost_usd: float = 0.0
    words: Count = field(default_factory=Count)
    counted: bool = False
    """Whether words were counted at all."""
    worst_ms: int = 0
    """How far the times of words were off, at most."""
    troubles: list[str] = field(default_factory=list)
    """The first things that were not as promised, in words."""

    def trouble(self, sentence: str) -> None:
        """Note something that is not as promised."""
        if len(self.troubles) < _MOST_TROUBLES:
            self.troubles.append(sentence)

    @property
    def well(self) -> bool:
        """Whether everything is as promised."""
        return not self.troubles and self.words.whole


async def run(plan: Plan, tally: Tally, receiver: Receiver | None = None) -> None:
    """Play all of *plan*; with a *receiver*, wait for each call's events and count its words."""
    clock = asyncio.get_running_loop().time
    began = clock()
    until = None if plan.lasting_seconds is None else began + plan.lasting_seconds
    seats = asyncio.Semaphore(plan.calls)
    async with asyncio.TaskGroup() as calls:
        for number in itertools.count():
            if until is None and number >= plan.calls:
                break
            try:
                async with asyncio.timeout_at(until):
                    await seats.acquire()
                    await asyncio.sleep(began + number / plan.rate - clock())
            except TimeoutError:
                break
            calls.create_task(_call(plan, number, seats, tally, receiver), name=f"call {number}")


async def _call(plan: Plan, number: int, seats: asyncio.Semaphore, tally: Tally, receiver: Receiver | None) -> None:
    sound = plan.sound(number)
    call_id, streams = call_of(plan, sound, number)
    address = plan.secrets.address(plan.base, plan.carrier, call_id, path_token=plan.path_tokens)
    tally.started += 1
    tally.running += 1
    began = time.monotonic()
    try:
        played = await play(address, streams, tally.watch)
    finally:
        tally.running -= 1
    _note(played, call_id, tally)
    legs = len(sound.tracks) if isinstance(sound, Sound) else 2
    tally.leg_seconds += legs * (time.monotonic() - began)
    if played.ended in {"refused", "unreachable"}:
        await asyncio.sleep(_PAUSE_SECONDS)
    seats.release()
    if receiver is None or played.ended in {"refused", "unreachable"}:
        return
    in_time = await receiver.until(lambda: receiver.ended(call_id), SETTLE_SECONDS)
    check = receiver.calls.pop(call_id, None) or CallCheck()
    if in_time:
        tally.ended += 1
    else:
        tally.unended += 1
        tally.trouble(f"{call_id}: no call.ended within {SETTLE_SECONDS:g} s of its end")
    settle(tally, call_id, check, sound if isinstance(sound, Sound) else None, played)


def call_of(plan: Plan, sound: Sound | Recording, number: int) -> tuple[str, list[Stream]]:
    """A fresh call: its id, and its streams."""
    if isinstance(sound, Recording):
        fresh = {"twilio": twilio, "telnyx": telnyx, "signalwire": signalwire}[plan.carrier].new_call_id()
        return fresh, sound.streams(fresh, twilio.new_stream_id())
    faults = plan.faults
    if faults.hang_up is not None and plan.mid_word:
        middle = msgspec.structs.replace(faults.hang_up, second=sound.middle_of_word(faults.hang_up.second))
        faults = msgspec.structs.replace(faults, hang_up=middle)
    match plan.carrier:
        case "twilio":
            call_id = twilio.new_call_id()
            return call_id, twilio.streams(sound, call_id, plan.parameters, faults, seed=number)
        case "signalwire":
            call_id = signalwire.new_call_id()
            return call_id, signalwire.streams(sound, call_id, plan.parameters, faults, seed=number)
        case "telnyx":
            call_id = telnyx.new_call_id()
            return call_id, telnyx.streams(
                sound,
                call_id,
                plan.parameters,
                faults,
                token=plan.secrets.telnyx_stream_token,
                encoding=plan.encoding,
                sizes=plan.sizes,
                seed=number,
            )


def _note(played: Played, call_id: str, tally: Tally) -> None:
    match played.ended:
        case "played":
            tally.played += 1
        case "refused":
            tally.refused += 1
            tally.trouble(f"{call_id}: the handshake was refused with HTTP {played.status}")
        case "unreachable":
            tally.unreachable += 1
            tally.trouble(f"{call_id}: nobody answered")
        case "lost":
            tally.lost += 1
            tally.trouble(f"{call_id}: the gateway closed the socket in mid-stream (code {played.close_code})")
    if played.received:
        tally.answered += 1
        tally.trouble(f"{call_id}: {played.received} messages came back on a one-way stream")


def settle(tally: Tally, call_id: str, check: CallCheck, sound: Sound | None, played: Played) -> None:
    """Add up one call's events, and its words where they can be counted."""
    tally.events += check.events
    tally.repeated += check.repeated
    tally.gaps_ms += check.gaps_ms
    tally.zombies += check.zombies
    tally.sessions += check.sessions_started
    tally.cost_usd += (check.ended or {}).get("cost_usd") or 0.0
    if check.zombies:
        tally.trouble(f"{call_id}: {check.zombies} zombies")
    for fault in check.faults:
        tally.trouble(f"{call_id}: {fault}")
    if sound is None or not sound.words:
        return
    tally.counted = True
    for track, spoken in sound.words.items():
        count, worst_ms = _leg(track, spoken, sound, check, played)
        tally.words = tally.words.plus(count)
        tally.worst_ms = max(tally.worst_ms, worst_ms)
        if not count.whole:
            tally.trouble(
                f"{call_id}, {track}: of {count.spoken} words {count.lost} lost, {count.doubled} doubled, "
                f"{count.moved} out of order, {count.invented} never spoken"
            )


def _leg(
    track: Track, spoken: Sequence[tones.Spoken], sound: Sound, check: CallCheck, played: Played
) -> tuple[Count, int]:
    heard: list[int] = []
    starts: list[int] = []
    for said in check.finals:
        if said.track == track:
            for text, start_ms in said.words:
                heard += tones.read(text)
                starts += [start_ms] * len(tones.read(text))
    numbers = [one.word for one in spoken]
    cut = sound.cut(track, played.spans)
    pairs = settled(numbers, heard, cut)
    # The call's clock is 0 at the first frame that came.
    zero_ms = min((span.start for span in played.spans), default=0) // SAMPLES_PER_MS
    worst_ms = max((abs(starts[there] + zero_ms - spoken[here].start_ms) for here, there in pairs), default=0)
    return compare(numbers, heard, cut), worst_ms
