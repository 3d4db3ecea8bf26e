"""
How a session is lost, and what follows: one table, read from top to bottom. Pure.

    now       another session at once, while the leg's budget of such tries lasts; then as `rest`
    fresh     another session at once: this one had simply lived its time
    rest      another session after a pause, longer each time, jittered, at most 5 s
    crowded   the account opens too many sessions: everybody slows down together
    circuit   nobody may open any (key, funds): legs wait, one probe tries
    token     the temporary token was too old: one more try with a new one
    give_up   this leg cannot be heard: what we ask for is refused, and asking again is refused again

Codes and texts are the service's (its documentation lists 1008 for a bad key, for missing funds and for too many
sessions alike, so the text decides).
"""

import re
from collections.abc import Callable
from typing import Final, Literal

import msgspec

Kind = Literal[
    "unreachable",  # no connection: name, route, refused, TLS
    "http",  # an answer that is no upgrade; `code` is its status
    "no_begin",  # upgraded, and then nothing for too long
    "error",  # an Error message; `code` its error_code
    "closed",  # closed without Termination; `code` the close code, 1006 where there was none
    "stalled",  # it looks open, and nothing gets through
    "unconfirmed",  # Terminate was said, and no Termination came in time
    "silent_turn",  # a turn went over into the next without ever being final
    "overdue",  # no token to be had, and the like: nothing was opened at all
]


class Loss(msgspec.Struct, frozen=True):
    """A session that did not end by Termination, or never began."""

    kind: Kind
    code: int | None = None
    text: str = ""
    begun: bool = False
    """Begin had been read."""

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.kind, self.code, self.text[:200]) if part)

    @property
    def label(self) -> str:
        """Of metrics, one of `LABELS`: a code, or `connect` where there was no answer at all."""
        if self.code is None:
            return "1006" if self.begun else "connect"
        if self.kind == "http":
            return "429" if self.code == 429 else "5xx" if self.code >= 500 else "connect"
        return str(self.code) if str(self.code) in LABELS else "1011"


LABELS: Final = frozenset({"connect", "429", "5xx", *map(str, (1000, 1001, 1006, 1008, 1011, 1012, 1013)), *map(str, range(3005, 3010))})  # fmt: skip

_GOES_WITH: Final = (
    (3009, r"too many|concurrent sessions"),
    (3008, r"session expired"),
    (1008, r"unauthorized|not authorized|api key|signature has expired|balance|insufficient|account"),
    (3006, r"input validation|inactivity|invalid (json|message)"),
    (3007, r"input duration|transmission rate"),
    (3005, r"session cancelled"),
)


def said(code: int | None, text: str, *, begun: bool) -> Loss:
    """What an Error message means; where it has no code, the code that its text goes with."""
    if code is None:
        code = next((code for code, words in _GOES_WITH if re.search(words, text, re.IGNORECASE)), None)
    return Loss("error", code, text[:500], begun)


Verdict = Literal["now", "fresh", "rest", "crowded", "circuit", "token", "give_up"]

_CROWDED: Final = re.compile(r"too many|rate.?limit|concurren|quota", re.IGNORECASE)
_EXPIRED_TOKEN: Final = re.compile(r"signature has expired|token.{0,20}expired|expired.{0,20}token", re.IGNORECASE)
_INACTIVE: Final = re.compile(r"inactivity|no messages received", re.IGNORECASE)
_RATE: Final = re.compile(r"transmission rate", re.IGNORECASE)

Row = tuple[str, Callable[[Loss], bool], Verdict]

ROWS: Final[tuple[Row, ...]] = (
    ("too many sessions, in whatever code it comes", lambda it: _answered(it) and bool(_CROWDED.search(it.text)) and it.code in {1008, 3009, 429}, "crowded"),
    ("3009 of whatever text", lambda it: it.code == 3009, "crowded"),
    ("HTTP 429", lambda it: it.kind == "http" and it.code == 429, "crowded"),
    ("HTTP 401, 402, 403: key, funds, plan", lambda it: it.kind == "http" and it.code in {401, 402, 403}, "circuit"),
    ("any other HTTP 4xx: a wrong address or request", lambda it: it.kind == "http" and _refuses(it.code), "give_up"),
    ("any other HTTP answer: whoever stands between us and the service", lambda it: it.kind == "http", "rest"),
    ("no connection", lambda it: it.kind in {"unreachable", "overdue"}, "rest"),
    ("no Begin in time", lambda it: it.kind == "no_begin", "now"),
    ("1008, the token was too old", lambda it: it.code == 1008 and bool(_EXPIRED_TOKEN.search(it.text)), "token"),
    ("1008: key, funds, account", lambda it: it.code == 1008, "circuit"),
    ("3006 for want of messages: nothing is wrong with what we ask for", lambda it: it.code == 3006 and bool(_INACTIVE.search(it.text)), "now"),
    ("3006: what we ask for is refused", lambda it: it.code == 3006, "give_up"),
    ("3008: it had lived its time", lambda it: it.code == 3008, "fresh"),
    ("3007 for our rate", lambda it: it.code == 3007 and bool(_RATE.search(it.text)), "rest"),
    ("3007, 1009: our framing; a bug of ours, and a call has to go on", lambda it: it.code in {3007, 1009}, "rest"),
    ("1013: try again later, by name", lambda it: it.code == 1013, "rest"),
    ("codes of the old service", lambda it: it.code is not None and it.code >= 4000, "rest"),
    ("dropped, going away, restarting, 1000 without Termination, 3005, a stall, a reset", lambda _: True, "now"),
)  # fmt: skip


def _answered(loss: Loss) -> bool:
    return loss.code is not None


def _refuses(status: int | None) -> bool:
    return status is not None and 400 <= status < 500 and status not in {408, 425}


def judge(loss: Loss) -> Verdict:
    """What follows from a loss."""
    return next(verdict for _, fits, verdict in ROWS if fits(loss))


LONGEST_PAUSE: Final = 5.0
"""Seconds, jitter included, while the call lives."""
_FIRST_PAUSE: Final = 0.25
_AT_ONCE: Final = 3
HEALTHY_SECONDS: Final = 30.0
_LIVED_SECONDS: Final = 1.0


class Retries:
    """
    A leg's budget: how long to wait before its next session.

    Three at once, then pauses that double; a session that was healthy for 30 s gives the whole budget back. One that had
    lived its time costs nothing, if it lived at all: a service that ends each as it begins is not asked in a circle.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        """*chance* gives 0 to 1."""
        self._chance = chance
        self._at_once = 0
        self._rests = 0
        self._tokens = 0
        self._lived = 0.0

    def healthy(self, seconds: float) -> None:
        """A session heard for so long; told before what became of it."""
        self._lived = seconds
        if seconds >= HEALTHY_SECONDS:
            self._at_once = self._rests = self._tokens = 0

    def pause(self, verdict: Verdict) -> float | None:
        """Seconds until the next try; None: give the leg up."""
        lived, self._lived = self._lived, 0.0
        match verdict:
            case "give_up":
                return None
            case "fresh" if lived >= _LIVED_SECONDS:
                return 0.0
            case "token":
                self._tokens += 1
                if self._tokens <= 1:
                    return 0.0
            case "now" | "fresh":
                self._at_once += 1
                if self._at_once <= _AT_ONCE:
                    return 0.0
            case _:
                pass  # what rests, rests from the first
        longest: float = min(LONGEST_PAUSE, _FIRST_PAUSE * 2.0**self._rests)
        self._rests = min(self._rests + 1, 10)
        return longest * (0.5 + 0.5 * self._chance())
