"""
The stage of one scenario: an emulator that fails as it is told, a receiver, a gateway of its own, a call with coded speech,
and what is held against all of them afterwards.

The emulator's ear notes when it heard each word. So it shows, word for word, how far a leg was behind the speaker: the way
from a voice to the service, whatever was lost and heard again on it.
"""

import asyncio
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from gateway import app, looplag
from gateway.audio import g711
from gateway.call import TRACKS, Track
from gateway.config import load
from gateway.emulator import tones
from gateway.emulator.ledger import Session as Line
from gateway.emulator.recogniser import CodedSpeech, Tones
from gateway.emulator.server import Emulator
from gateway.simulator import telnyx, twilio, whole
from gateway.simulator.audio import SAMPLES_PER_MS, Sound
from gateway.simulator.check import CallCheck
from gateway.simulator.count import Count, aligned, compare
from gateway.simulator.handshake import Secrets
from gateway.simulator.player import Played, Watch, play
from gateway.simulator.receiver import Arrival, Receiver
from gateway.simulator.scenarios import Expected, Scenario
from gateway.simulator.streams import Step, Stream

CATCH_UP_SECONDS: Final = 5.0
BEHIND_SECONDS: Final = 1.0
"""A leg has caught up where words are heard less than so long after they were spoken."""
MOST_MS_IN_5_SECONDS: Final = 6000.0
"""Contract §4: "at no more than 1.2 × real time averaged over 5 s"."""
AT_ONCE_MS: Final = 1000.0
_JITTER_MS: Final = 250.0
"""What the way through two sockets may squeeze together."""
_ENDS_SECONDS: Final = 100.0
"""From the carrier's last word to `call.ended`: a lost tail is tried for a minute."""
_READY_SECONDS: Final = 15.0
_EDGE_MS: Final = 200

PROFILES: Final = "".join(f'[profiles.default.{track}.speech]\nkeyterms_prompt = ["{track}"]\n' for track in TRACKS)
"""So that the emulator's ledger shows whose session each is; and that a successor is asked for the same."""


class Hearing(NamedTuple):
    """A word that reached the service: when (loop seconds), and which."""

    at: float
    word: int


@dataclass
class Notes:
    """What the emulator's ear heard in one session."""

    number: int
    fed_at: float
    """When audio last reached it."""
    began_at: float = math.inf
    """When audio first did."""
    heard: list[Hearing] = field(default_factory=list)


class Noting(CodedSpeech):
    """Coded speech that is noted as it is heard."""

    def __init__(self) -> None:
        self.emulator: Emulator | None = None
        self.notes: dict[int, Notes] = {}
        """By the number of the session."""

    def listen(self, rate: int) -> Tones:
        assert self.emulator is not None
        number = self.emulator.sessions[-1].number  # the ear is made as the session's line is opened
        notes = self.notes[number] = Notes(number, asyncio.get_running_loop().time())
        return _Ear(rate, notes)


class _Ear(Tones):
    def __init__(self, rate: int, notes: Notes) -> None:
        super().__init__(rate)
        self._notes = notes
        self._clock = asyncio.get_running_loop().time

    def feed(self, pcm16le: bytes) -> None:
        before = len(self._words)
        super().feed(pcm16le)
        self._notes.fed_at = self._clock()
        self._notes.began_at = min(self._notes.began_at, self._notes.fed_at)
        self._notes.heard += [Hearing(self._notes.fed_at, tones.read(word.text)[0]) for word in self._words[before:]]


class Stop:
    """Asks the gateway on the stage to stop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.again = False

    def now(self, *, again: bool) -> None:
        """Stop; *again* does not wait for calls to end by themselves."""
        self.again = again
        self._asked.set()

    async def first(self) -> None:
        await self._asked.wait()


@dataclass
class Stage:
    """All that a scenario needs, running."""

    scenario: Scenario
    secrets: Secrets
    emulator: Emulator
    receiver: Receiver
    noting: Noting
    environment: dict[str, str]
    carriers: str = ""
    stop: Stop = field(default_factory=Stop)
    arrivals: list[Arrival] = field(default_factory=list)
    lag_seconds: float = 0.0
    """The most that this process's loop was held up."""
    refused_at: list[float] = field(default_factory=list)
    """Loop seconds at which handshakes were refused."""

    def lagged(self, seconds: float) -> None:
        """Note a lag of the loop."""
        self.lag_seconds = max(self.lag_seconds, seconds)

    async def note_refusals(self) -> None:
        """Note when the emulator refuses handshakes, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            with suppress(TimeoutError):
                await self.emulator.wait(
                    lambda: self.emulator.ledger.refused_handshakes > len(self.refused_at), timeout=3600
                )
            self.refused_at += [clock()] * (self.emulator.ledger.refused_handshakes - len(self.refused_at))

    def events(self, call_id: str) -> list[Arrival]:
        """What came of a call, each event once."""
        seen: dict[str, Arrival] = {}
        for arrival in self.arrivals:
            if arrival.event.data["call"]["id"] == call_id:
                seen.setdefault(arrival.webhook_id, arrival)
        return list(seen.values())


@asynccontextmanager
async def staged(scenario: Scenario) -> AsyncIterator[Stage]:
    """Everything but the gateway."""
    secrets = whole.new_secrets()
    noting = Noting()
    arrivals: list[Arrival] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        async with (
            Emulator(faults=scenario.faults, recogniser=noting) as emulator,
            Receiver(watch=arrivals.append) as receiver,
        ):
            noting.emulator = emulator
            profiles = Path(folder) / "gateway.toml"
            profiles.write_text(PROFILES, encoding="utf-8")
            environment = whole.settings(secrets, emulator.url, receiver.url, receiver.secret, Path(folder))
            environment |= {"GATEWAY_CONFIG": str(profiles), "GATEWAY_SESSIONS_PER_MINUTE": "6000"}
            environment |= {f"GATEWAY_{name.upper()}": str(value) for name, value in scenario.settings.items()}
            yield Stage(scenario, secrets, emulator, receiver, noting, environment, arrivals=arrivals)


@asynccontextmanager
async def gateway(stage: Stage) -> AsyncIterator[None]:
    """A gateway in this process; leaving it drains it, and ends what still runs."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(app.serve(load(stage.environment), lines.put_nowait, stage.stop), name="gateway")
        watching = [
            group.create_task(looplag.watch(stage.lagged), name="loop lag"),
            group.create_task(stage.note_refusals(), name="refusals"),
        ]
        try:
            for _ in range(2):
                name, _, url = (await asyncio.wait_for(lines.get(), _READY_SECONDS)).partition("=")
                if name.endswith("carriers"):
                    stage.carriers = url.replace("http", "ws", 1)
            yield
        finally:
            stage.stop.now(again=True)
            await serving
            for task in watching:
                task.cancel()


@dataclass
class Call:
    """One call of a scenario, and how it went."""

    id: str
    sound: Sound
    streams: list[Stream]
    played: Played = field(default_factory=Played)
    watch: Watch = field(default_factory=Watch)
    began: float | None = None
    """Loop seconds of its first message: the speakers' time 0."""
    ended: bool = False
    over_at: float = math.inf
    """Loop seconds: what is spoken later need not be heard, though it is sent."""

    @classmethod
    def of(cls, scenario: Scenario, secrets: Secrets, number: int = 0) -> Self:
        """A fresh call with a scenario's speech."""
        speech = scenario.speech
        words: dict[Track, list[tones.Spoken]] = {
            track: tones.script(
                scenario.seconds - speech.silent_at_the_end,
                first=number * 37 + place * (tones.VOCABULARY // 2),
                start_ms=speech.start_ms,
                turn_gap_ms=speech.turn_gap_ms,
                words_a_turn=speech.words_a_turn,
                repeat=speech.repeat,
            )
            for place, track in enumerate(TRACKS)
        }
        sound = Sound({track: tones.mulaw(words[track], scenario.seconds) for track in TRACKS}, words)
        if scenario.carrier == "telnyx":
            call_id = telnyx.new_call_id()
            streams = telnyx.streams(
                sound, call_id, {}, scenario.carrier_faults, token=secrets.telnyx_stream_token, sizes=scenario.sizes
            )
        else:
            call_id = twilio.new_call_id()
            streams = twilio.streams(sound, call_id, {}, scenario.carrier_faults, seed=number)
        return cls(call_id, sound, streams)

    async def play(self, stage: Stage) -> None:
        """Play it at real pace."""
        address = stage.secrets.address(stage.carriers, stage.scenario.carrier, self.id)
        first, *others = self.streams
        streams = [first._replace(steps=self._noted(first.steps)), *others]
        self.played = await play(address, streams, self.watch)

    def not_sent(self, track: Track) -> list[int]:
        """Places of words that were not sent whole, or not in time."""
        spans = self.played.spans
        if self.began is not None and self.over_at < math.inf:
            last = (self.over_at - self.began) * g711.RATE_HZ
            spans = [span for span in spans if span.end <= last]
        return self.sound.cut(track, spans)

    def _noted(self, steps: Iterator[Step]) -> Iterator[Step]:
        self.began = asyncio.get_running_loop().time()
        yield from steps


async def finish(stage: Stage, call: Call) -> None:
    """Wait for a call's `call.ended`."""
    call.ended = await stage.receiver.until(lambda: stage.receiver.ended(call.id), _ENDS_SECONDS)


# What is held against them


@dataclass
class LegResult:
    """What came of one leg."""

    track: Track
    count: Count = field(default_factory=Count)
    worst_ms: int = 0
    unsaid: int = 0
    """Words lost outside of every `audio.gap`: lost silently."""
    sessions: list[Line] = field(default_factory=list)
    behind: float = 0.0
    """Seconds: the most that a word was heard after it was spoken."""
    caught_up: float = 0.0
    """Seconds from the service's return until words were heard in less than a second again."""
    caught_up_limit: float = 0.0
    late: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    """Which words were lost, or came too often."""
    noticed: float = 0.0
    """Seconds from the last audio that reached a lost session to the next session's dialling."""


@dataclass
class Row:
    """A line of the table."""

    scenario: Scenario
    troubles: list[str] = field(default_factory=list)
    legs: list[LegResult] = field(default_factory=list)
    opened: int = 0
    abandoned: int = 0
    zombies: int = 0
    gap_ms: int = 0
    billed_seconds: float = 0.0
    """By the emulator's ledger, at worst."""
    spoken_seconds: float = 0.0
    late_seconds: float = 0.0
    """Of the player, or of this process's loop: what is measured is not better than this."""
    seconds: float = 0.0
    """That the scenario took."""
    note: str = ""
    details: list[str] = field(default_factory=list)
    """Sessions, words and events, for whoever asks why it failed."""
    log: list[str] = field(default_factory=list)
    """Of the gateway, where it was kept."""

    @property
    def passed(self) -> bool:
        return not self.troubles

    @property
    def count(self) -> Count:
        total = Count()
        for leg in self.legs:
            total = total.plus(leg.count)
        return total

    @property
    def worst_ms(self) -> int:
        return max((leg.worst_ms for leg in self.legs), default=0)

    @property
    def behind(self) -> float:
        return max((leg.behind for leg in self.legs), default=0.0)

    @property
    def caught_up(self) -> float:
        return max((leg.caught_up for leg in self.legs), default=0.0)


def judge(stage: Stage, calls: Sequence[Call]) -> Row:
    """Hold the outcome of a scenario's calls against what is promised."""
    scenario, expected = stage.scenario, stage.scenario.expected
    row = Row(scenario)
    totals = stage.emulator.ledger.totals
    row.opened, row.abandoned = totals.opened, totals.abandoned
    row.billed_seconds = totals.billed_seconds
    row.late_seconds = max(stage.lag_seconds, *(call.watch.late_seconds for call in calls))
    for call in calls:
        check = stage.receiver.calls.get(call.id) or CallCheck()
        row.spoken_seconds += call.sound.seconds * len(call.sound.tracks)
        row.zombies += check.zombies
        row.gap_ms += check.gaps_ms
        row.troubles += [f"{call.id[:8]}: {fault}" for fault in check.faults]
        if call.played.ended != "played":
            row.troubles.append(f"the carrier's stream: {call.played.ended} {call.played.status or ''}".rstrip())
        if not call.ended:
            row.troubles.append("no call.ended")
        elif expected.reason is not None and (check.ended or {}).get("reason") != expected.reason:
            row.troubles.append(f"call.ended says {(check.ended or {}).get('reason')}, not {expected.reason}")
        row.troubles += _accounts(stage, call, check)
        for track in call.sound.words:
            leg = _leg(stage, call, check, track, row.late_seconds)
            row.legs.append(leg)
    _hold(row, expected, stage)
    zero = min((line.opened_at for line in stage.emulator.sessions), default=0.0)
    for line in stage.emulator.sessions:
        times = (line.begun_at, line.terminated_at, line.closed_at)
        begun, terminated, closed = ("-" if at is None else f"{at - zero:.2f}" for at in times)
        heard = " ".join(f"{text}@{start_ms}" for text, start_ms, _ in line.heard)
        row.details.append(
            f"session {line.number} {_track_of(line)}: dialled {line.opened_at - zero:.2f}, begun {begun}, terminated {terminated}, "
            f"closed {closed}, {line.ended}, audio {line.audio_ms / 1000:.2f} s: {heard}"
        )
    row.details += [detail for leg in row.legs for detail in leg.details]
    for call in calls:
        row.details += [f"{arrival.event.type}: {_told(arrival)}" for arrival in stage.events(call.id)]
    return row


def _told(arrival: Arrival) -> str:
    data = arrival.event.data
    leg = (data.get("leg") or {}).get("track", "")
    if turn := data.get("turn"):
        return f"{leg} {turn['id']} " + " ".join(f"{word['text']}@{word['start_ms']}" for word in turn["words"])
    if session := data.get("session"):
        return f"{leg} {session['number']} {session.get('reason')} {session.get('audio_seconds')}"
    return f"{leg} {data.get('start_ms', '')} {data.get('end_ms', '')} {data.get('reason', '')}"


def _accounts(stage: Stage, call: Call, check: CallCheck) -> list[str]:
    """Every session that began is said, begun and ended once; the price of the call is the sum of theirs."""
    troubles = []
    if check.sessions_started != len(check.sessions_ended):
        troubles.append(f"{check.sessions_started} sessions said to start, {len(check.sessions_ended)} to end")
    begun = {line.id for line in stage.emulator.sessions if line.begun_at is not None}
    said = {session["id"] for session in check.sessions_ended}
    if call.ended and len(stage.receiver.calls) == 1 and not stage.scenario.expected.unheard_begins and begun != said:
        troubles.append(f"{len(begun - said)} sessions began and were never said, {len(said - begun)} said never began")
    if check.ended is not None:
        billed = sum(session["billed_seconds"] for session in check.sessions_ended)
        if abs(billed - check.ended["billed_seconds"]) > 0.01:
            troubles.append(f"call.ended bills {check.ended['billed_seconds']} s, its sessions {billed:.3f} s")
        outcomes = {leg["track"]: leg["outcome"] for leg in check.ended["legs"]}
        wanted = stage.scenario.expected.outcomes
        if wanted is not None and tuple(sorted(outcomes.values())) != tuple(sorted(wanted)):
            troubles.append(f"the legs' outcomes are {outcomes}")
    return troubles


def _hold(row: Row, expected: Expected, stage: Stage) -> None:
    count = row.count
    for name, wanted in (("lost", expected.lost), ("doubled", 0), ("moved", 0), ("invented", 0)):
        if (found := getattr(count, name)) > (wanted if wanted is not None else found):
            row.troubles.append(f"{found} words {name}")
    for leg in row.legs:
        if leg.unsaid:
            row.troubles.append(f"{leg.track}: {leg.unsaid} words lost and no gap said")
        # "a later stream of the same call is placed on it by arrival": there the player's own lateness shows.
        late_ms = row.late_seconds * 1000 if row.scenario.carrier_faults.reconnect else 0.0
        if leg.worst_ms > expected.within_ms + late_ms and leg.count.heard:
            row.troubles.append(f"{leg.track}: a word's time is {leg.worst_ms} ms off")
        row.troubles += leg.late
        if expected.noticed_seconds is not None and leg.noticed > expected.noticed_seconds + row.late_seconds:
            row.troubles.append(f"{leg.track}: noticed after {leg.noticed:.1f} s, not {expected.noticed_seconds:g}")
        if expected.sessions is not None and not len(leg.sessions) <= expected.sessions:
            row.troubles.append(f"{leg.track}: {len(leg.sessions)} sessions, not {expected.sessions}")
        if expected.untouched and len(leg.sessions) == 1 and leg.behind > BEHIND_SECONDS + row.late_seconds:
            row.troubles.append(f"{leg.track} had no fault and was {leg.behind:.1f} s behind")
    if expected.untouched and not any(len(leg.sessions) == 1 for leg in row.legs):
        row.troubles.append("the other leg was touched, too")
    if row.abandoned and not expected.abandoned:
        row.troubles.append(f"{row.abandoned} sessions abandoned")
    if still := stage.emulator.ledger.totals.open:
        row.troubles.append(f"{still} sessions left open")
    if expected.zombies is not None and row.zombies != expected.zombies:
        row.troubles.append(f"{row.zombies} zombies said, not {expected.zombies}")
    if row.gap_ms and not expected.gaps:
        row.troubles.append(f"{row.gap_ms} ms of gaps said, and nothing was lost")
    for line in stage.emulator.sessions:
        if line.violations:
            row.troubles.append(f"session {line.number}: {dict(line.violations)}")
        # What was sent at once and came a little late seems to be sent twice in five seconds: once more what may go at once.
        twice = AT_ONCE_MS if row.late_seconds > _JITTER_MS / 5000 else 0.0
        if line.most_ms_in_5_seconds > MOST_MS_IN_5_SECONDS + twice + _JITTER_MS + row.late_seconds * 1000:
            row.troubles.append(f"session {line.number}: {line.most_ms_in_5_seconds:.0f} ms of audio in 5 s")


def _leg(stage: Stage, call: Call, check: CallCheck, track: Track, late_seconds: float) -> LegResult:
    spoken = call.sound.words[track]
    result = LegResult(track)
    heard: list[int] = []
    starts: list[int] = []
    for said in check.finals:
        if said.track == track:
            for text, start_ms in said.words or ((said.text, said.start_ms),):
                heard += tones.read(text)
                starts += [start_ms] * len(tones.read(text))
    numbers = [one.word for one in spoken]
    cut = call.not_sent(track)
    result.count = compare(numbers, heard, cut)
    pairs = aligned(numbers, heard)
    zero_ms = min((span.start for span in call.played.spans), default=0) // SAMPLES_PER_MS
    result.worst_ms = max((abs(starts[there] + zero_ms - spoken[here].start_ms) for here, there in pairs), default=0)
    gaps = [
        (arrival.event.data["start_ms"], arrival.event.data["end_ms"])
        for arrival in stage.events(call.id)
        if arrival.event.type == "audio.gap" and arrival.event.data["leg"]["track"] == track
    ]
    found = {here for here, _ in pairs} | set(cut)
    lost = [one for place, one in enumerate(spoken) if place not in found]
    matched = {there for _, there in pairs}
    extra = [(word, at) for place, (word, at) in enumerate(zip(heard, starts, strict=True)) if place not in matched]
    result.details += [f"{track}: lost {tones.spelled(one.word)} of {one.start_ms} ms" for one in lost]
    result.details += [f"{track}: extra {tones.spelled(word)} at {at + zero_ms} ms" for word, at in extra]
    result.unsaid = sum(
        not any(
            low - _EDGE_MS < one.end_ms - zero_ms and one.start_ms - zero_ms < high + _EDGE_MS for low, high in gaps
        )
        for place, one in enumerate(spoken)
        if place not in found
    )
    if len(stage.receiver.calls) == 1 and call.began is not None:
        result.sessions = [line for line in stage.emulator.sessions if _track_of(line) == track]
        _lateness(stage, call.began, spoken, result, late_seconds)
    return result


def _track_of(line: Line) -> str | None:
    terms: Any = line.parameters.given.get("keyterms_prompt")
    return terms[0] if isinstance(terms, list) and terms else None


def _lateness(stage: Stage, began: float, spoken: Sequence[tones.Spoken], leg: LegResult, late_seconds: float) -> None:
    """How far the leg was behind its speaker, and whether it caught up after each loss in the time it has."""
    wall = time.time() - asyncio.get_running_loop().time()
    times: defaultdict[int, list[int]] = defaultdict(list)
    for one in spoken:
        times[one.word].append(one.end_ms)
    once = {word: ends[0] for word, ends in times.items() if len(ends) == 1}
    notes = [stage.noting.notes.get(line.number) for line in leg.sessions]
    lags = sorted(
        (hearing.at, hearing.at - began - once[hearing.word] / 1000)
        for note in notes
        if note is not None
        for hearing in note.heard
        if hearing.word in once
    )
    leg.behind = max((lag for _, lag in lags), default=0.0)
    # When the service could hear the leg (again): the first Begin, each return after a loss, each change of sessions.
    returns = [line.begun_at - wall for line in leg.sessions[:1] if line.begun_at is not None]
    for line, note, after in zip(leg.sessions, notes, leg.sessions[1:], strict=False):
        successor = stage.noting.notes.get(after.number)
        if line.terminated_at is not None or line.ended.startswith("error:"):
            returns += [] if successor is None else [successor.began_at]
            continue
        lost_at = (line.closed_at or line.opened_at) - wall
        deaf_from = note.fed_at if note is not None and note.heard else line.opened_at - wall
        leg.noticed = max(leg.noticed, after.opened_at - wall - deaf_from)
        if line.ended == "fault:cut":
            returns.append(max([lost_at, *(at for at in stage.refused_at if lost_at <= at <= after.opened_at - wall)]))
        elif after.begun_at is not None:
            returns.append(after.begun_at - wall)
    for back, following in zip(returns, [*returns, math.inf][1:], strict=True):
        among = [(at, lag) for at, lag in lags if back < at <= following]
        behind = max((lag for _, lag in among), default=0.0)
        last = max((at for at, lag in among if lag >= BEHIND_SECONDS + late_seconds), default=back)
        limit = CATCH_UP_SECONDS + 5 * behind
        leg.caught_up = max(leg.caught_up, last - back)
        leg.caught_up_limit = max(leg.caught_up_limit, limit)
        if last - back > limit:
            leg.late.append(
                f"{leg.track}: still behind {last - back:.1f} s after the service's return, not {limit:.1f}"
            )
