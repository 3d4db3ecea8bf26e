"""
The table of the fault tour: what goes wrong, in which phase of a call, on which of its legs, and what must come of it.

    phase         the service's session 0 or 1, or both, fail when so much audio has come to them
    connecting    before Begin, or with it
    first word    in the middle of the first word
    first turn    between the first words
    mid-word      in a later turn, in the middle of a word
    mid-turn      between two words of a turn
    turn's end    after a turn's last word, before it is final
    between       after a turn is final, before the next begins
    terminating   once Terminate was said, or as the carrier hangs up

Session 0 is the first that was admitted, mostly the inbound leg's; a session that replaces one has the next number.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from gateway.call import Carrier
from gateway.emulator.faults import Cut, Failure, Faults, How, Malformed
from gateway.events import EndReason
from gateway.simulator.frames import CarrierFaults, HangUp

Kind = Literal["call", "kill", "drain"]


@dataclass(frozen=True, kw_only=True)
class Speech:
    """How the parties speak."""

    start_ms: int = 400
    turn_gap_ms: int = 1000
    words_a_turn: int = 4
    repeat: int = 0
    """Every so many-th word is said three times running."""
    silent_at_the_end: float = 0.0
    """Seconds."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What must come of it. Of words nothing may be lost, doubled, moved or said by nobody, unless it says so."""

    lost: int | None = 0
    """At most; None: as many as the gaps say."""
    gaps: bool = False
    """Gaps may be said."""
    zombies: int | None = 0
    """Exactly; None: any number."""
    abandoned: bool = False
    sessions: int | None = None
    """The most that a leg may need."""
    outcomes: tuple[str, ...] | None = ("complete", "complete")
    reason: EndReason | None = "stopped"
    within_ms: int = 100
    """How far the time of a word may be off."""
    noticed_seconds: float | None = None
    """Within which a session that carries nothing is replaced."""
    untouched: bool = False
    """One leg must not have noticed anything."""
    unheard_begins: bool = False
    """A session may begin and be lost before the gateway can know that it did."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One line of the table."""

    name: str
    phase: str = ""
    legs: str = ""
    faults: Faults = field(default_factory=Faults)
    then: tuple[float, Faults] | None = None
    """After so many seconds the emulator fails otherwise."""
    seconds: float = 11.0
    speech: Speech = field(default_factory=Speech)
    carrier: Carrier = "twilio"
    carrier_faults: CarrierFaults = field(default_factory=CarrierFaults)
    sizes: tuple[int, ...] = (160,)
    """Of Telnyx's frames, in samples."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Of the gateway."""
    expected: Expected = field(default_factory=Expected)
    kind: Kind = "call"
    calls: int = 1
    alone: bool = False
    """Too heavy to be measured beside others."""
    short: bool = False
    """Part of the tour's short form."""

    @property
    def title(self) -> str:
        """Its name, unique in the table."""
        return "/".join(part for part in (self.name, self.phase, self.legs) if part)


# Speech has turns of four words at 400, 2460, 4520, 6580, 8640 ms; each word lasts 160 ms and has 140 ms of silence behind it.
PHASES: Final = {
    "connecting": 0.0,
    "first word": 0.48,
    "first turn": 1.27,
    "mid-word": 4.90,
    "mid-turn": 5.04,
    "turn's end": 5.76,
    "between": 6.36,
}
LEGS: Final[Mapping[str, tuple[int, ...]]] = {"one": (0,), "other": (1,), "both": (0, 1)}
HARD: Final = Faults(pad_end_ms=1300, early_start_ms=1000)
"""Word ends and turns' beginnings as far off as the live service tells them."""
HARD_MS: Final = 1100
_SEEDS: Final = 20
HARD_SPEECH: Final = Speech(repeat=3)


def _lost(how: str, second: float) -> Cut | Failure:
    """A session's end at so much audio."""
    match how:
        case "reset":
            return Cut(second, "rst")
        case "fin":
            return Cut(second, "fin")
        case "error 3005":
            return Failure(3005, "Session Cancelled: An error occurred", second)
        case "error 3008":
            return Failure(3008, "Session Expired: Maximum session duration exceeded", second)
        case "error 3009":
            return Failure(3009, "Too many concurrent sessions", second)
        case "error 1008 crowded":
            return Failure(1008, "Unauthorized Connection: Too many concurrent sessions", second)
        case "error 1008 funds":
            return Failure(1008, "Unauthorized Connection: Insufficient account balance", second)
        case "error 3006 inactive":
            return Failure(3006, "Session terminated due to inactivity: No messages received for 60 seconds", second)
        case "error 3007 rate":
            return Failure(3007, "Audio Transmission Rate Exceeded: Received 40.0 sec. audio in 4.0 sec", second)
        case _:
            return Cut(second, "close", int(how.removeprefix("close ")))


def losses() -> Iterator[Scenario]:
    """One session lost, in each way, phase and leg; the ways that look most different through all phases."""
    for how in ("reset", "fin", "close 1000", "error 3005"):
        for phase, second in PHASES.items():
            for legs, numbers in LEGS.items():
                yield Scenario(
                    name=how,
                    phase=phase,
                    legs=legs,
                    faults=Faults(at={number: _lost(how, second) for number in numbers}),
                    expected=Expected(untouched=legs != "both", unheard_begins=how == "reset" and not second),
                    short=(how, phase, legs) in _SHORT_LOSSES,
                )
    for phase, second in PHASES.items():  # words repeated across the cut, their times as wrong as they can be
        for how in ("reset", "close 1000"):
            yield Scenario(
                name=f"{how}, repeated words",
                phase=phase,
                legs="both",
                faults=Faults(at={number: _lost(how, second) for number in (0, 1)}),
                speech=HARD_SPEECH,
                expected=Expected(unheard_begins=how == "reset" and not second),
                short=(how, phase) in {("reset", "mid-word"), ("close 1000", "turn's end")},
            )
            yield Scenario(
                name=f"{how}, repeated words, times off",
                phase=phase,
                legs="both",
                faults=HARD.but(at={number: _lost(how, second) for number in (0, 1)}),
                speech=HARD_SPEECH,
                expected=Expected(within_ms=HARD_MS, unheard_begins=how == "reset" and not second),
                short=(how, phase) == ("reset", "between"),
            )
    for code in (1001, 1011, 1012, 1013, 4031):
        yield _lost_once(f"close {code}")
    for error in ("3008", "3009", "1008 crowded", "1008 funds", "3006 inactive", "3007 rate"):
        yield _lost_once(f"error {error}")
    for step in range(12):  # through one turn and its silence, each 170 ms: no place is safe for a bug
        second = 4.45 + step * 0.17
        yield Scenario(
            name="reset, repeated words, times off",
            phase=f"at {second:.2f}",
            legs="both",
            faults=HARD.but(at={0: _lost("reset", second), 1: _lost("reset", second + 0.085)}),
            speech=HARD_SPEECH,
            expected=Expected(within_ms=HARD_MS),
        )
    yield Scenario(
        name="every session reset after 4 s",
        legs="both",
        faults=Faults(cut=Cut(4.0, "rst")),
        speech=HARD_SPEECH,
        seconds=14,
        short=True,
    )
    yield Scenario(
        name="every session reset after 3 s, times off",
        legs="both",
        faults=HARD.but(cut=Cut(3.0, "rst")),
        speech=HARD_SPEECH,
        seconds=14,
        expected=Expected(within_ms=HARD_MS),
    )
    for second in (0.0, 0.3, 1.0, 1.9):  # the successor is lost while it hears again, or as it begins
        yield Scenario(
            name="reset, and its successor too",
            phase=f"mid-word, then at {second:g}",
            legs="both",
            faults=HARD.but(
                at={0: Cut(4.9), 1: Cut(4.9), 2: Cut(second), 3: Cut(second), 4: Cut(second / 2), 5: Cut(second, "fin")}
            ),
            speech=HARD_SPEECH,
            expected=Expected(within_ms=HARD_MS, unheard_begins=not second),
        )
    yield Scenario(
        name="reset in a turn without a pause",
        phase="mid-turn",
        legs="both",
        faults=Faults(at={0: Cut(7.0), 1: Cut(9.5)}),
        speech=Speech(repeat=3, words_a_turn=1000),
        seconds=14,
    )
    for second in (6.4, 8.0, 11.9):
        yield Scenario(
            name="reset while the party listens",
            phase=f"at {second:g}",
            legs="both",
            faults=HARD.but(at={0: Cut(second), 1: Cut(second + 0.1)}),
            speech=Speech(repeat=3, turn_gap_ms=9000),
            seconds=14,
            expected=Expected(within_ms=HARD_MS),
        )


_SHORT_LOSSES: Final = {
    ("reset", "connecting", "both"),
    ("reset", "first word", "one"),
    ("reset", "mid-word", "both"),
    ("fin", "mid-turn", "other"),
    ("close 1000", "turn's end", "one"),
    ("close 1000", "between", "both"),
    ("error 3005", "mid-turn", "both"),
}


def _lost_once(how: str) -> Scenario:
    return Scenario(
        name=how,
        phase="mid-turn",
        legs="one",
        faults=Faults(at={0: _lost(how, PHASES["mid-turn"])}),
        expected=Expected(untouched=True),
    )


def outages() -> Iterator[Scenario]:
    """The service is away, or refuses to be dialled."""
    for status in (503, 429, 401, 0):
        shown = status or "reset"
        yield Scenario(
            name=f"four refused handshakes ({shown})",
            phase="connecting",
            legs="both",
            faults=Faults(refuse_handshakes=4, refuse_status=status),
            short=status in {503, 0},
        )
        for legs, numbers in LEGS.items():
            yield Scenario(
                name=f"four refused handshakes ({shown})",
                phase="mid-word",
                legs=legs,
                faults=Faults(at={number: Cut(PHASES["mid-word"]) for number in numbers}),
                then=(2.5, Faults(refuse_handshakes=4, refuse_status=status)),
                speech=HARD_SPEECH,
                seconds=14,
                expected=Expected(untouched=legs != "both"),
                short=(status, legs) == (401, "one"),
            )
    for phase in ("first word", "mid-turn", "between"):
        for status in (503, 0):
            yield Scenario(
                name=f"4 s of outage ({status or 'reset'})",
                phase=phase,
                legs="both",
                faults=Faults(
                    at={0: Cut(PHASES[phase]), 1: Cut(PHASES[phase])}, outage_seconds=4, refuse_status=status
                ),
                seconds=16,
                speech=HARD_SPEECH,
                short=(phase, status) == ("mid-turn", 503),
            )
    for phase in ("first word", "mid-word", "turn's end", "between"):
        yield Scenario(
            name="15 s of outage (503)",
            phase=phase,
            legs="both",
            faults=Faults(at={0: Cut(PHASES[phase]), 1: Cut(PHASES[phase])}, outage_seconds=15),
            seconds=25,
            speech=HARD_SPEECH,
        )
    yield Scenario(
        name="15 s of outage (503), one leg",
        phase="mid-word",
        legs="one",
        faults=Faults(at={0: Cut(PHASES["mid-word"])}, outage_seconds=15),
        seconds=25,
        expected=Expected(untouched=True),
    )
    yield Scenario(
        name="15 s of outage (503), the call ends in it",
        phase="mid-turn",
        legs="both",
        faults=Faults(at={0: Cut(PHASES["mid-turn"]), 1: Cut(PHASES["mid-turn"])}, outage_seconds=15),
        seconds=9,
    )
    yield Scenario(
        name="15 s of outage (503), caught up",
        phase="mid-turn",
        legs="both",
        faults=Faults(at={0: Cut(PHASES["mid-turn"]), 1: Cut(PHASES["mid-turn"])}, outage_seconds=15),
        seconds=140,
    )
    yield Scenario(
        name="outage longer than the buffer",
        phase="mid-turn",
        legs="both",
        faults=Faults(at={0: Cut(PHASES["mid-turn"]), 1: Cut(PHASES["mid-turn"])}, outage_seconds=16),
        seconds=25,
        settings={"replay_seconds": 8},
        expected=Expected(lost=None, gaps=True, outcomes=("incomplete", "incomplete")),
    )
    yield Scenario(
        name="outage to the end",
        phase="mid-turn",
        legs="both",
        faults=Faults(at={0: Cut(PHASES["mid-turn"]), 1: Cut(PHASES["mid-turn"])}, outage_seconds=600),
        seconds=9,
        settings={"replay_seconds": 8},
        expected=Expected(lost=None, gaps=True, outcomes=("incomplete", "incomplete")),
    )


def beginnings() -> Iterator[Scenario]:
    """A session is long in coming, never comes, or is refused for what it asks."""
    yield Scenario(
        name="Begin 2.5 s late",
        phase="connecting",
        legs="both",
        faults=Faults(at={0: {"begin_delay_seconds": 2.5}, 1: {"begin_delay_seconds": 2.5}}),
        seconds=16,
        expected=Expected(sessions=1),
        short=True,
    )
    yield Scenario(
        name="every Begin 2.5 s late, and a reset",
        phase="mid-word",
        legs="one",
        faults=Faults(begin_delay_seconds=2.5, at={0: Cut(4.9)}),
        seconds=14,
        speech=HARD_SPEECH,
    )
    yield Scenario(
        name="upgrade 3 s late", phase="connecting", legs="both", faults=Faults(upgrade_delay_seconds=3.0), seconds=14
    )
    for legs, numbers in LEGS.items():
        yield Scenario(
            name="never begins",
            phase="connecting",
            legs=legs,
            faults=Faults(at={number: {"never_begin": True} for number in numbers}),
            seconds=14,
            expected=Expected(noticed_seconds=10.5, untouched=legs != "both"),
            short=legs == "both",
        )
    yield Scenario(
        name="begins after it was given up",
        phase="connecting",
        legs="one",
        faults=Faults(at={0: {"begin_delay_seconds": 11.0}}),
        seconds=14,
        expected=Expected(untouched=True),
    )
    yield Scenario(
        name="never begins again",
        phase="mid-turn",
        legs="one",
        faults=Faults(at={0: Cut(PHASES["mid-turn"]), 2: {"never_begin": True}}),
        seconds=16,
        expected=Expected(untouched=True),
    )
    for code, text in (
        (1008, "Unauthorized Connection: Too many concurrent sessions"),
        (1008, "Unauthorized Connection: Insufficient account balance"),
        (3005, "Session Cancelled: An error occurred"),
        (1011, "Internal error"),
    ):
        yield Scenario(
            name=f"refused before Begin ({code} {text.split(': ')[-1].lower()})",
            phase="connecting",
            legs="both",
            faults=Faults(at={0: Failure(code, text), 1: Failure(code, text)}),
            short=text.endswith("balance"),
        )
    for legs, outcomes in (("one", ("refused", "complete")), ("both", ("refused", "refused"))):
        refusal = Failure(3006, "Input Validation Error: prompt is not allowed")
        yield Scenario(
            name="a parameter is refused",
            phase="connecting",
            legs=legs,
            faults=Faults(at=dict.fromkeys(LEGS[legs], refusal)),
            seconds=9,
            expected=Expected(lost=None, gaps=True, outcomes=outcomes, sessions=1),
            short=legs == "one",
        )


def silences() -> Iterator[Scenario]:
    """The connection looks open, and nothing gets through."""
    for phase in ("first word", "mid-turn", "between"):
        for knob in ("black_hole_second", "stall_second"):
            for legs in ("one", "both"):
                yield Scenario(
                    name="half-open link" if knob == "black_hole_second" else "stalled reader",
                    phase=phase,
                    legs=legs,
                    faults=Faults(at={number: {knob: PHASES[phase]} for number in LEGS[legs]}),
                    seconds=22,
                    speech=HARD_SPEECH,
                    expected=Expected(noticed_seconds=12.0, untouched=legs == "one"),
                    short=(phase, legs) == ("mid-turn", "one"),
                )
    yield Scenario(
        name="half-open link",
        phase="terminating",
        legs="both",
        faults=Faults(at={0: {"black_hole_second": 9.0}, 1: {"black_hole_second": 9.0}}),
        seconds=9.5,
        expected=Expected(zombies=None),
    )


def rotations() -> Iterator[Scenario]:
    """A session's time is over."""
    for repeat, padded in ((0, False), (3, False), (3, True)):
        faults = (HARD if padded else Faults()).but(session_seconds=5.0)
        suffix = (", repeated words" if repeat else "") + (", times off" if padded else "")
        yield Scenario(
            name="rotation every 5 s" + suffix,
            legs="both",
            faults=faults,
            seconds=25,
            speech=Speech(repeat=repeat),
            expected=Expected(within_ms=HARD_MS if padded else 100),
        )
        yield Scenario(
            name="rotation every 5 s, without a pause" + suffix,
            legs="both",
            faults=faults,
            seconds=25,
            speech=Speech(repeat=repeat, words_a_turn=1000),
            expected=Expected(within_ms=HARD_MS if padded else 100),
        )
    yield Scenario(
        name="rotation every 5 s, short",
        legs="both",
        faults=Faults(session_seconds=5.0),
        seconds=13,
        speech=HARD_SPEECH,
        short=True,
    )
    yield Scenario(
        name="rotation every 5 s, without a pause, short",
        legs="both",
        faults=Faults(session_seconds=5.0),
        seconds=13,
        speech=Speech(repeat=3, words_a_turn=1000),
        short=True,
    )
    yield Scenario(
        name="rotation every 5 s, and each first one reset",
        legs="both",
        faults=Faults(session_seconds=5.0, at={0: Cut(4.3), 3: Cut(2.0)}),
        seconds=16,
        speech=HARD_SPEECH,
    )
    yield Scenario(
        name="rotation into a session that never begins",
        legs="one",
        faults=Faults(at={0: {"session_seconds": 8.0}, 2: {"never_begin": True}}),
        seconds=22,
    )
    yield Scenario(
        name="rotation while the service refuses",
        legs="both",
        faults=Faults(session_seconds=6.0),
        then=(2.0, Faults(session_seconds=6.0, refuse_handshakes=8)),
        seconds=18,
        speech=HARD_SPEECH,
    )
    yield Scenario(
        name="session tokens",
        legs="both",
        settings={"session_tokens": 1},
        seconds=9,
        faults=Faults(at={0: Cut(PHASES["mid-turn"])}),
        short=True,
    )
    yield Scenario(
        name="session tokens, the mint is slow and then ill",
        legs="both",
        settings={"session_tokens": 1},
        seconds=14,
        faults=Faults(token_delay_seconds=1.5, at={0: Cut(PHASES["mid-turn"]), 1: Cut(PHASES["mid-word"])}),
        then=(4.0, Faults(token_status=503)),
    )


def endings() -> Iterator[Scenario]:
    """The call ends, and something goes wrong then."""
    speech = Speech(silent_at_the_end=0.3)
    for how in get_args(How):
        for legs, numbers in LEGS.items():
            yield Scenario(
                name=f"dropped after Terminate ({how})",
                phase="terminating",
                legs=legs,
                faults=Faults(at={number: {"drop_after_terminate": how} for number in numbers}),
                seconds=7.8,  # in the pause of an open turn
                speech=Speech(repeat=3),
                short=(how, legs) == ("rst", "both"),
            )
    for seconds in (7.2, 8.4):
        yield Scenario(
            name="every session dropped after Terminate",
            phase=f"terminating at {seconds:g}",
            legs="both",
            faults=Faults(drop_after_terminate="rst"),
            seconds=seconds,
            speech=Speech(repeat=3, words_a_turn=1000 if seconds == 8.4 else 4),
            expected=Expected(lost=None, gaps=True, outcomes=None),
        )
    for code in (1000, 1011):
        yield Scenario(
            name=f"closed {code} as the carrier stops",
            phase="terminating",
            legs="both",
            faults=Faults(at={0: Cut(7.7, "close", code), 1: Cut(7.75, "close", code)}),
            seconds=7.8,
            speech=Speech(repeat=3),
        )
    yield Scenario(
        name="Terminate is never acknowledged",
        phase="terminating",
        legs="one",
        faults=Faults(at={0: {"never_acknowledge_terminate": True}}),
        seconds=8,
        settings={"terminate_seconds": 4},
        expected=Expected(zombies=1),
        short=True,
    )
    yield Scenario(
        name="Terminate is never acknowledged",
        phase="terminating",
        legs="both",
        faults=Faults(at={0: {"never_acknowledge_terminate": True}, 1: {"never_acknowledge_terminate": True}}),
        seconds=8,
        speech=speech,
        expected=Expected(zombies=2),
    )
    yield Scenario(
        name="Termination 6 s late",
        phase="terminating",
        legs="both",
        faults=Faults(termination_delay_seconds=6.0),
        seconds=8,
        expected=Expected(sessions=1),
    )
    for how in ("stop", "abort", "silence"):
        yield Scenario(
            name=f"hang-up in mid-word ({how})",
            phase="terminating",
            legs="both",
            carrier_faults=CarrierFaults(hang_up=HangUp(6.98, how)),  # type: ignore[arg-type]
            seconds=10,
            settings={"media_timeout_seconds": 3, "reconnect_seconds": 2},
            expected=Expected(
                sessions=1,
                reason={"stop": "stopped", "abort": "socket_lost", "silence": "media_timeout"}[how],  # type: ignore[arg-type]
            ),
            short=how == "stop",
        )
        yield Scenario(
            name=f"reset, and a hang-up in mid-word ({how})",
            phase="terminating",
            legs="both",
            faults=Faults(at={0: Cut(6.7), 1: Cut(6.9)}),
            carrier_faults=CarrierFaults(hang_up=HangUp(6.98, how)),  # type: ignore[arg-type]
            seconds=10,
            speech=HARD_SPEECH,
            settings={"media_timeout_seconds": 3, "reconnect_seconds": 2},
            expected=Expected(
                reason={"stop": "stopped", "abort": "socket_lost", "silence": "media_timeout"}[how]  # type: ignore[arg-type]
            ),
        )


def messages() -> Iterator[Scenario]:
    """The service says strange things."""
    kinds = get_args(Malformed)
    yield Scenario(
        name="malformed messages", legs="both", faults=Faults(malformed=kinds, partial_every_ms=200), short=True
    )
    for kind in kinds:
        yield Scenario(name=f"malformed: {kind}", legs="both", faults=Faults(malformed=(kind,)), seconds=7)
    yield Scenario(name="extra messages", legs="both", faults=Faults(extras=True), seconds=7)
    yield Scenario(name="finals twice", legs="both", faults=Faults(duplicate_final=True), seconds=9, short=True)
    yield Scenario(name="an empty final at the end", legs="both", faults=Faults(empty_final=True), seconds=7)
    yield Scenario(
        name="everything odd at once",
        legs="both",
        faults=Faults(
            malformed=tuple(kind for kind in kinds if kind != "float_durations"),
            extras=True,
            duplicate_final=True,
            empty_final=True,
            unordered_revision=True,
            pending_below_ms=5000,
            speakers=3,
            partial_every_ms=200,
            at={0: Cut(5.04)},
        ),
        speech=HARD_SPEECH,
        short=True,
    )
    yield Scenario(
        name="an unordered revision",
        legs="both",
        faults=Faults(unordered_revision=True, pending_below_ms=5000, speakers=2),
        seconds=9,
    )
    yield Scenario(name="huge turns", legs="both", faults=Faults(huge_turn_words=3000), seconds=9)
    yield Scenario(
        name="huge turns, and a reset",
        phase="mid-turn",
        legs="both",
        faults=Faults(huge_turn_words=300, at={0: Cut(5.04), 1: Cut(5.04)}),
        seconds=9,
    )
    yield Scenario(
        name="padded ends and early starts",
        legs="both",
        faults=HARD,
        speech=HARD_SPEECH,
        expected=Expected(within_ms=HARD_MS, sessions=1),
        short=True,
    )
    yield Scenario(name="turns cut by force", legs="both", faults=Faults(turn_cap_seconds=1.0), speech=HARD_SPEECH)
    yield Scenario(
        name="turns cut by force, and a reset",
        phase="mid-turn",
        legs="both",
        faults=Faults(turn_cap_seconds=1.0, at={0: Cut(5.04), 1: Cut(5.04)}),
        speech=HARD_SPEECH,
    )
    yield Scenario(
        name="no partials", phase="mid-turn", legs="both", faults=Faults(partial_every_ms=60000, at={0: Cut(5.04)})
    )
    yield Scenario(name="the service strict about frames", legs="both", faults=Faults(strict_frames=True), seconds=7)


def carriers() -> Iterator[Scenario]:
    """What goes wrong on the carrier's side."""
    yield Scenario(
        name="carrier's socket lost and back",
        legs="both",
        carrier="telnyx",
        carrier_faults=CarrierFaults(reconnect=(4.9, 1.2)),
        expected=Expected(within_ms=600, sessions=2, gaps=True),
        short=True,
    )
    yield Scenario(
        name="carrier's socket lost and back, and a reset",
        legs="both",
        carrier="telnyx",
        carrier_faults=CarrierFaults(reconnect=(4.9, 1.2)),
        faults=Faults(at={0: Cut(4.8), 2: Cut(1.5)}),
        speech=HARD_SPEECH,
        expected=Expected(within_ms=600, gaps=True),
    )
    yield Scenario(
        name="a gap of the carrier",
        legs="both",
        carrier_faults=CarrierFaults(skip=(4.6, 5.4)),
        expected=Expected(gaps=True, sessions=1),
        short=True,
    )
    yield Scenario(
        name="a gap of the carrier, and a reset behind it",
        legs="both",
        carrier_faults=CarrierFaults(skip=(4.6, 5.0)),
        faults=Faults(at={0: Cut(5.5), 1: Cut(5.1)}),
        speech=HARD_SPEECH,
        expected=Expected(gaps=True),
    )
    yield Scenario(
        name="2 % of the frames lost, and a reset",
        legs="both",
        carrier_faults=CarrierFaults(lose=0.02),
        faults=Faults(at={0: Cut(5.04), 1: Cut(5.7)}),
        seconds=14,
        expected=Expected(gaps=True),
    )
    yield Scenario(
        name="frames shuffled, twice and in bursts, and a reset",
        legs="both",
        carrier="telnyx",
        carrier_faults=CarrierFaults(shuffle=8, repeat=0.05, burst_ms=233),
        sizes=(160, 240, 80, 333),
        faults=Faults(at={0: Cut(5.04), 1: Cut(5.7)}),
        speech=HARD_SPEECH,
    )


def whole_processes() -> Iterator[Scenario]:
    """The gateway itself: killed, or stopped with many sessions open."""
    yield Scenario(
        name="kill -9",
        phase="mid-turn",
        legs="both",
        kind="kill",
        seconds=7,
        settings={"reconnect_seconds": 2},
        expected=Expected(
            lost=None,
            gaps=True,
            zombies=2,
            abandoned=True,
            outcomes=("incomplete", "incomplete"),
            reason="gateway_lost",
        ),
        short=True,
    )
    yield Scenario(
        name="kill -9 of ten calls",
        phase="mid-turn",
        legs="both",
        kind="kill",
        calls=10,
        seconds=7,
        settings={"reconnect_seconds": 2},
        expected=Expected(
            lost=None,
            gaps=True,
            zombies=20,
            abandoned=True,
            outcomes=("incomplete", "incomplete"),
            reason="gateway_lost",
        ),
        alone=True,
    )
    yield Scenario(
        name="200 sessions at the drain's deadline",
        phase="terminating",
        legs="both",
        kind="drain",
        calls=100,
        carrier="telnyx",
        sizes=(800,),
        seconds=14,
        settings={"drain_seconds": 3},
        expected=Expected(reason="drained", outcomes=None),
        alone=True,
    )


def chance(seed: int) -> Scenario:
    """Whatever may come together: which sessions end how and when, how they begin, how the parties speak and hang up."""
    dice = random.Random(seed)
    seconds = dice.uniform(9, 16)
    at: dict[int, Any] = {}
    for number in range(dice.randint(1, 10)):
        if dice.random() < 0.6:
            at[number] = _lost(
                dice.choice(("reset", "fin", "close 1000", "close 1011", "error 3005")), dice.uniform(0, 9)
            )
        elif dice.random() < 0.3:
            at[number] = {"begin_delay_seconds": dice.uniform(0, 2.5)}
        elif dice.random() < 0.2:
            at[number] = {"drop_after_terminate": dice.choice(get_args(How))}
    session_seconds = dice.choice((None, None, 5.0, 8.0))
    faults = Faults(
        pad_end_ms=dice.choice((0, 300, 1300)),
        early_start_ms=dice.choice((0, 400, 1000)),
        outage_seconds=dice.choice((0.0, 0.0, 1.0, 3.0)),
        refuse_status=dice.choice((503, 0)),
        begin_delay_seconds=dice.choice((0.05, 0.3, 1.2)),
        session_seconds=session_seconds,
        # A turn that outlives each session that hears it again is heard by none: no service is as bad as that.
        turn_cap_seconds=None if session_seconds is None else 2.0,
        duplicate_final=dice.random() < 0.2,
        empty_final=dice.random() < 0.2,
        partial_every_ms=dice.choice((None, 200, 60_000)),
        end_silence_ms=dice.choice((300, 500, 900)),
        at=at,
    )
    hang_up = HangUp(seconds - dice.uniform(0.3, 1.5), "stop") if dice.random() < 0.5 else None
    return Scenario(
        name="by chance",
        phase=f"seed {seed}",
        legs="both",
        faults=faults,
        seconds=seconds,
        speech=Speech(
            repeat=dice.choice((0, 2, 3, 5)),
            words_a_turn=dice.choice((2, 4, 7, 1000)),
            turn_gap_ms=dice.choice((700, 1000, 2500)),
        ),
        carrier_faults=CarrierFaults(hang_up=hang_up),
        expected=Expected(within_ms=faults.early_start_ms + 100, unheard_begins=True),
    )


def table() -> list[Scenario]:
    """The whole tour."""
    made: list[Scenario] = []
    for chapter in (losses, outages, beginnings, silences, rotations, endings, messages, carriers, whole_processes):
        made += chapter()
    made += map(chance, range(_SEEDS))
    titles = [scenario.title for scenario in made]
    twice = {title for title in titles if titles.count(title) > 1}
    assert not twice, twice
    return made


def chosen(*, only: str = "", short: bool = False, seeds: range | None = None) -> list[Scenario]:
    """The scenarios whose title contains *only*; of the short form, or all; with *seeds*, those made by chance alone."""
    if seeds is not None:
        return [chance(seed) for seed in seeds]
    return [one for one in table() if only.lower() in one.title.lower() and (one.short or not short)]


def knobs_used() -> set[str]:
    """Every knob that some scenario turns."""
    used: set[str] = set()
    ordinary = Faults()

    def turn(faults: Faults) -> None:
        used.update(name for name in Faults.__struct_fields__ if getattr(faults, name) != getattr(ordinary, name))
        for special in faults.at.values():
            used.update(
                {"cut"} if isinstance(special, Cut) else {"failure"} if isinstance(special, Failure) else special
            )

    for scenario in table():
        turn(scenario.faults)
        if scenario.then is not None:
            turn(scenario.then[1])
    return used
