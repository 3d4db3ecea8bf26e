"""The ledger: who abandoned what, and what it costs."""

from typing import Any

import pytest

from gateway.emulator.ledger import Ledger, Session
from gateway.emulator.parameters import parse

UNIX = 1_000_000.0


def session(query: str = "inactivity_timeout=60", **fields: Any) -> Session:
    line = Session("id", 0, UNIX, "key", parse(query), begun_at=UNIX + 1, expires_at=UNIX + 10799)
    line.last_client_message_at = UNIX + 20
    for name, value in fields.items():
        setattr(line, name, value)
    return line


@pytest.mark.parametrize(
    ("ended", "abandoned", "worst"),
    [
        ("client_terminate", False, 30),
        ("client_close_without_terminate", True, 80),
        ("abort", True, 80),
        ("inactivity", True, 30),
        ("max_duration", False, 30),
        ("error:3005", False, 30),
        ("fault:cut", False, 80),
    ],
)
def test_who_is_to_blame_and_what_it_costs(ended: str, abandoned: bool, worst: float) -> None:
    """A client that leaves without Terminate abandons; at worst the service bills until the inactivity timeout."""
    line = session()
    line.end(ended, UNIX + 30)
    assert line.abandoned is abandoned
    assert line.seconds(UNIX + 99) == 30
    assert line.worst_seconds(UNIX + 99) == worst


def test_without_an_inactivity_timeout_the_worst_is_the_cap() -> None:
    """Nothing but the cap ends a session that nobody ends."""
    line = session("")
    line.end("abort", UNIX + 30)
    assert line.worst_seconds(UNIX + 30) == 10799


def test_who_said_terminate_abandons_nothing() -> None:
    """However the socket ended afterwards."""
    line = session(terminated_at=UNIX + 29)
    line.end("abort", UNIX + 30)
    assert not line.abandoned
    assert line.worst_seconds(UNIX + 99) == 30


def test_a_session_silent_until_its_cap_was_abandoned() -> None:
    """Running into 3008 while speaking is rotation come late; in silence it is neglect."""
    line = session()
    line.end("max_duration", UNIX + 31)
    assert line.abandoned


def test_only_the_first_end_counts() -> None:
    """What comes after the end changes nothing."""
    line = session()
    line.end("error:3005", UNIX + 5)
    line.end("abort", UNIX + 6)
    assert (line.ended, line.closed_at) == ("error:3005", UNIX + 5)


def test_the_pace_of_a_client_is_measured() -> None:
    """The most audio in any five seconds, and how far it was ahead of the clock."""
    line = session(begun_at=UNIX)
    for tenth in range(100):
        line.came(UNIX + tenth / 10, 3200, 100)
    line.came(UNIX + 10, 32000, 1000)
    assert line.most_ms_in_5_seconds == 5900  # 49 frames of the last five seconds, and the long one
    assert line.ahead_ms == 1000


def test_the_totals_and_their_json() -> None:
    """Sums over sessions, and lines without a secret."""
    ledger = Ledger(lambda: UNIX + 10)
    first, second = ledger.open("a", "key"), ledger.open("b", "token")
    first.opened_at = second.opened_at = UNIX
    first.begun_at = UNIX
    first.parameters = parse("token=secret&sparkle=1&max_speakers=1")
    first.came(UNIX, 3200, 100)
    first.terminated_at = UNIX + 5
    first.end("client_terminate", UNIX + 5)
    totals = ledger.totals
    assert (totals.opened, totals.open, totals.terminated, totals.abandoned) == (2, 1, 1, 0)
    assert (totals.audio_seconds, totals.billed_seconds, totals.billed_seconds_optimistic) == (0.1, 15, 15)
    shown = ledger.as_json()
    assert shown["totals"]["opened"] == 2
    assert shown["sessions"][0]["params"] == {"token": "(set)", "sparkle": "1", "max_speakers": 1}
    assert shown["sessions"][0]["ineffective_params"] == ["max_speakers"]
    assert [line["number"] for line in shown["sessions"]] == [0, 1]
    assert str(totals).startswith("sessions opened 2, terminated 1, still open 1, abandoned 0;")


def test_violations_are_bounded() -> None:
    """However inventive a client is, the ledger keeps a hundred kinds."""
    line = session()
    for number in range(500):
        line.violate(f"kind {number}")
        line.violate("kind 0")
    assert len(line.violations) == 100
    assert line.violations["kind 0"] == 501
