"""Whether a line still carries anything: a leg, a service and a sweep, all of them pretended, on a clock of their own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.speech.liveness import Liveness
from gateway.speech.pacing import Pace

CHUNK_MS: Final = 60.0
STEP: Final = 0.02
NOTICED_SECONDS: Final = 12.0

Counting = Literal["received", "heard"]


@dataclass
class Line:
    """A session: the leg sends what it has, the service counts what it gets. Each knob is a fact about one side."""

    backlog_ms: float = 0.0
    """Audio that waits as the session begins, and goes at the contract's pace."""
    speaks: Callable[[float], bool] = lambda _: True
    """Whether the leg has live audio at a time."""
    counting: Counting = "received"
    heartbeat_seconds: float = 5.0
    late: Callable[[int], float] = lambda _: 0.0
    """How much later than due a heartbeat comes, by its number."""
    says_count: bool = True
    restarts_at: float = 1e9
    """The service counts from nothing again."""
    deaf_at: float = 1e9
    """Heartbeats go on, nothing is read."""
    gone_at: float = 1e9
    """Nothing goes either way."""
    stuck_at: float = 1e9
    """The socket takes nothing more."""
    sweep_phase: float = 0.0
    heartbeats: bool = True
    live: Liveness = field(init=False)

    def run(self, seconds: float) -> tuple[float, str] | None:
        """When a sweep found the line dead, and why; None where none did in that time."""
        live = self.live = Liveness(0.0, heartbeats=self.heartbeats)
        pace = Pace(0.0)
        waiting, arrived, heard, base, sending = self.backlog_ms, 0.0, 0.0, 0.0, False
        beats, sweep, number = self.heartbeat_seconds, self.sweep_phase, 0
        for step in range(int(seconds / STEP)):
            now = step * STEP
            waiting += STEP * 1000 if self.speaks(now) else 0.0
            while waiting >= CHUNK_MS and not sending and pace.wait(CHUNK_MS, now) == 0:
                live.sending(now)
                if now >= self.stuck_at:
                    sending = True
                    break
                live.sent(CHUNK_MS, now)
                pace.sent(CHUNK_MS, now)
                waiting -= CHUNK_MS
                arrived += CHUNK_MS if now < min(self.deaf_at, self.gone_at) else 0.0
            heard = min(arrived, heard + STEP * 1000)
            if now >= self.restarts_at and not base:
                base = arrived if self.counting == "received" else heard
            if self.heartbeats and now >= beats + self.late(number) and now < self.gone_at:
                count = (arrived if self.counting == "received" else heard) - base
                live.heartbeat(count if self.says_count else None, now)
                beats, number = beats + self.heartbeat_seconds, number + 1
            if now >= sweep:
                sweep += 1.0
                if (why := live.stalled(now)) is not None:
                    return now, why
        return None


when: Final = st.floats(0.0, 30.0)
phase: Final = st.floats(0.0, 0.99)


@settings(max_examples=60)
@given(when, phase, st.sampled_from([0.0, 0.0, 20_000.0]))
def test_a_deaf_service_is_noticed(at: float, sweep: float, backlog: float) -> None:
    """Its heartbeats come, and count no more of what is sent: within 12 s, whenever it stopped listening."""
    found = Line(deaf_at=at, sweep_phase=sweep, backlog_ms=backlog).run(at + 13)
    assert found is not None
    assert found[1] == "our audio does not arrive"
    assert at <= found[0] <= at + NOTICED_SECONDS


@settings(max_examples=60)
@given(when, phase, st.booleans())
def test_a_half_open_line_is_noticed(at: float, sweep: float, speaks: bool) -> None:
    """Nothing comes at all: within 12 s, though the leg may have nothing to send."""
    found = Line(gone_at=at, sweep_phase=sweep, speaks=lambda _: speaks).run(at + 13)
    assert found is not None
    assert at <= found[0] <= at + NOTICED_SECONDS


@settings(max_examples=30)
@given(when, phase, st.booleans())
def test_a_stuck_socket_is_noticed(at: float, sweep: float, heartbeats: bool) -> None:
    """Our own send buffer does not move: within 12 s, with heartbeats or without."""
    found = Line(stuck_at=at, sweep_phase=sweep, heartbeats=heartbeats, says_count=False).run(at + 13)
    assert found is not None
    assert found[1] == "our send buffer does not move"
    assert at <= found[0] <= at + NOTICED_SECONDS


@pytest.mark.parametrize("seconds", [0.5, 2.0, 3.0])
def test_a_deaf_service_with_many_heartbeats(seconds: float) -> None:
    """However close together they come: what counts is how long they have counted alike."""
    found = Line(deaf_at=20.3, heartbeat_seconds=seconds).run(40)
    assert found is not None
    assert 20.3 <= found[0] <= 20.3 + NOTICED_SECONDS


def test_two_heartbeats_close_together() -> None:
    """That they count alike proves nothing: one was late, and the next one was not."""
    line = Line(backlog_ms=60_000, late=lambda number: 4.9 if number % 3 == 0 else 0.0)
    assert line.run(100) is None
    live = Liveness(0.0, heartbeats=True)
    for second in range(1, 20):
        live.sent(1000, float(second))
    live.heartbeat(4000, 19.0)
    live.heartbeat(4000, 22.9)
    assert live.stalled(22.9) is None
    live.heartbeat(4000, 23.0)
    assert live.stalled(23.0) == "our audio does not arrive"


def test_a_service_deaf_to_a_leg_that_was_silent() -> None:
    """As long as nothing is sent nothing is missed; it is noticed within 12 s of the first word that is."""
    found = Line(deaf_at=10.0, speaks=lambda now: now < 8 or now >= 60).run(90)
    assert found is not None
    assert 60 < found[0] <= 60 + NOTICED_SECONDS


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([0.0, 5_000.0, 60_000.0]),
    st.sampled_from(["received", "heard"]),
    st.lists(st.floats(0.0, 3.0), min_size=1, max_size=9),
    phase,
)
def test_no_false_alarm(backlog: float, counting: Counting, late: list[float], sweep: float) -> None:
    """Live or catching up on a minute, counted as received or as heard at real time, with heartbeats up to 3 s late."""
    line = Line(backlog_ms=backlog, counting=counting, late=lambda number: late[number % len(late)], sweep_phase=sweep)
    assert line.run(100) is None


@pytest.mark.parametrize("seconds", [3.0, 5.0, 8.0, 10.0])
def test_slow_heartbeats(seconds: float) -> None:
    """Twice as rare as they are documented is no alarm."""
    assert Line(heartbeat_seconds=seconds).run(120) is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.5, 25.0), min_size=2, max_size=8), st.sampled_from(["received", "heard"]))
def test_a_leg_that_falls_silent_and_speaks_again(turns: list[float], counting: Counting) -> None:
    """Whenever it stops and goes on: what was not sent is not missed."""
    edges = [0.0]
    for turn in turns:
        edges.append(edges[-1] + turn)
    spoken = [(a, b) for number, (a, b) in enumerate(pairwise(edges)) if number % 2 == 0]
    line = Line(speaks=lambda now: any(a <= now < b for a, b in spoken), counting=counting)
    assert line.run(edges[-1] + 12) is None


def test_a_leg_that_never_speaks() -> None:
    """Heartbeats that count nothing, for nothing was sent."""
    assert Line(speaks=lambda _: False).run(300) is None


def test_heartbeats_without_a_count() -> None:
    """They are a sign of life all the same; what was sent a second before one counts as arrived."""
    line = Line(says_count=False)
    assert line.run(60.5) is None
    assert line.live.proven_ms == pytest.approx(59_000, abs=700)


def test_a_count_that_begins_anew() -> None:
    """A worker is replaced there and counts from nothing: it grows, so our audio arrives."""
    line = Line(restarts_at=42.0)
    assert line.run(90) is None
    assert line.live.proven_ms == pytest.approx(45_000, abs=6000)


def test_without_heartbeats() -> None:
    """Where a profile wants none, silence is no alarm; what was sent counts as arrived."""
    line = Line(heartbeats=False)
    assert line.run(60) is None
    assert line.live.proven_ms == pytest.approx(60_000, abs=100)


def test_what_is_proven_is_never_more_than_was_sent() -> None:
    """A service that counts too much does not make us forget audio."""
    live = Liveness(0.0, heartbeats=True)
    live.sending(0.0)
    live.sent(1000, 1.0)
    live.heartbeat(5000, 5.0)
    assert live.proven_ms == 1000
    live.heartbeat(None, 10.0)
    assert live.proven_ms == 1000


def test_proof_lags_by_a_heartbeat() -> None:
    """What is proven is what the last heartbeat counted."""
    line = Line()
    assert line.run(17) is None
    assert line.live.proven_ms == pytest.approx(15_000, abs=100)


def test_any_message_is_a_sign_of_life() -> None:
    """Turns are as good as heartbeats; and a chunk that waits is counted from when it began to."""
    live = Liveness(0.0, heartbeats=True)
    for second in range(1, 60):
        live.heard(float(second))
        assert live.stalled(second + 0.9) is None
    live.sending(60.0)
    live.sending(64.0)
    assert live.stalled(64.9) is None
    assert live.stalled(65.0) == "our send buffer does not move"
    live.sent(60, 66.0)
    live.heard(66.0)
    assert live.stalled(66.0) is None
