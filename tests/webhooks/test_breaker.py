"""Whether an endpoint fails for everyone."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery import EndpointState
from gateway.webhooks.breaker import THRESHOLD, Breaker
from gateway.webhooks.retry import LONGEST_QUICK_PAUSE, QUICK_SECONDS

URL = "https://crm.example/"
A, B, C = (URL, "A"), (URL, "B"), (URL, "C")
NOW = 1_700_000_000.0


def opened(now: float = NOW) -> Breaker:
    """Make an open breaker."""
    breaker = Breaker(EndpointState(URL))
    for number in range(THRESHOLD):
        breaker.failed((A, B)[number % 2], now, 0.5)
    assert breaker.open
    return breaker


def test_one_call_never_opens_it() -> None:
    """However often one call's event is refused, the others go on."""
    breaker = Breaker(EndpointState(URL))

    assert not any(breaker.failed(A, NOW, 0.5) for _ in range(100))


def test_it_opens_once_when_several_calls_fail_in_a_row() -> None:
    """The failure that reaches the threshold opens it, since the first of them, and says so once."""
    breaker = Breaker(EndpointState(URL))

    assert [breaker.failed((A, B)[n % 2], NOW + n, 0.5) for n in range(7)] == [False] * 4 + [True] + [False] * 2
    assert breaker.failing_since == NOW


def test_a_success_between_starts_the_count_anew() -> None:
    """Only failures in a row count."""
    breaker = Breaker(EndpointState(URL))
    for n in range(THRESHOLD * 4):
        assert not breaker.failed((A, B)[n % 2], NOW, 0.5) or n % 4 == 3
        if n % 4 == 3:
            assert not breaker.succeeded(C)


def test_any_success_closes_it() -> None:
    """One success lets all go; the next says nothing new."""
    breaker = opened()

    assert [breaker.succeeded(C), breaker.succeeded(A), breaker.open] == [True, False, False]


def test_who_failed_while_another_was_served_opens_nothing_until_it_was_served_too() -> None:
    """Two calls whose events are refused for their own sake delay a third one once, not for ever."""
    breaker = opened()
    breaker.succeeded(C)
    assert not any(breaker.failed(lane, NOW, 0.5) for _ in range(20) for lane in (A, B))
    breaker.succeeded(A)
    breaker.forget(B)
    assert any(breaker.failed(lane, NOW, 0.5) for _ in range(3) for lane in (A, B))


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1, exclude_max=True)), max_size=200))
def test_probes_come_often_in_the_first_ten_minutes(steps: list[tuple[float, float]]) -> None:
    """Nobody waits longer than ten seconds behind two probes in a row, jitter included."""
    breaker, now = opened(), NOW
    for late, chance in steps:
        now = max(now, breaker.probe_at) + late
        breaker.probe_failed(A, now, chance)
        if now - NOW < QUICK_SECONDS:
            assert 0 < breaker.probe_at - now <= LONGEST_QUICK_PAUSE / 2
        else:
            assert 0 < breaker.probe_at - now <= 900


def test_a_probe_waits_as_long_as_the_receiver_asks() -> None:
    """`Retry-After` of a probe holds the next one back."""
    breaker = opened()
    breaker.probe_failed(A, NOW, 0.5, 300.0)

    assert breaker.probe_at == NOW + 300


def test_dead_letters_are_worked_off_quickly() -> None:
    """After a probe that ended in a dead letter the next one follows within a second."""
    breaker = opened()
    breaker.probe_failed(A, NOW + 4 * 86400, 0.5, buried=True)

    assert breaker.probe_at == NOW + 4 * 86400 + 1


def test_probes_take_turns() -> None:
    """A lane probes twice before the next one does."""
    breaker = opened()
    turns = []
    for _ in range(6):
        turns.append(breaker.rotate())
        breaker.probe_failed(A, NOW, 0.5)

    assert turns == [True, False, True, False, True, False]


def test_a_refused_probe_is_anothers_turn() -> None:
    """A probe that is refused says little of the endpoint: the next is another lane's."""
    breaker = opened()
    breaker.probe_failed(A, NOW, 0.5, refused=True)
    assert (breaker.rotate(), breaker.doubtful) == (True, True)
    breaker.probe_failed(A, NOW, 0.5)
    breaker.probe_failed(A, NOW, 0.5)
    assert (breaker.rotate(), breaker.doubtful) == (False, False)


def test_its_state_survives_a_restart() -> None:
    """An open breaker is open again, with its next probe; a closed one keeps nothing."""
    breaker = opened()
    breaker.probe_failed(A, NOW, 0.5)
    again = Breaker(breaker.state(URL, None))

    assert (again.open, again.failing_since, again.probe_at, again.probes) == (True, NOW, breaker.probe_at, 1)
    again.probe_failed(A, NOW, 0.5)
    again.postpone(NOW + 99)
    assert again.probe_at == NOW + 99
    again.succeeded(A)
    assert again.state(URL, 5.0) == EndpointState(URL, disabled_at=5.0)
    again.probe_failed(A, NOW, 0.5)
    assert not again.open
