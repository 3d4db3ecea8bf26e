"""What a receiver holds a gateway to, call by call."""

from typing import Any

from gateway.simulator.check import CallCheck

LEG = {"track": "inbound", "party": "customer"}


def turn(index: int, text: str = "hello", start_ms: int = 0) -> dict[str, Any]:
    """A turn as events carry it."""
    words = [{"text": word, "start_ms": start_ms + 100 * place} for place, word in enumerate(text.split())]
    return {"id": f"inbound-{index}", "index": index, "text": text, "start_ms": start_ms, "end_ms": 500, "words": words}


def told(*events: tuple[str, dict[str, Any]]) -> CallCheck:
    """A check that was told events with sequences 1, 2, 3, …"""
    check = CallCheck()
    for number, (kind, data) in enumerate(events, 1):
        check.take(f"msg_{number}", kind, {"leg": LEG, "sequence": number, **data})
    return check


STARTED: tuple[str, dict[str, Any]] = ("call.started", {})
FINAL: tuple[str, dict[str, Any]] = ("turn.final", {"turn": turn(0)})
ENDED: tuple[str, dict[str, Any]] = ("call.ended", {"transcript": [turn(0)], "cost_usd": 0.01})


def test_a_call_as_it_should_be() -> None:
    """No fault; its turns, sessions and end are known."""
    session = ("session.ended", {"session": {"reason": "terminated"}})
    gap = ("audio.gap", {"start_ms": 100, "end_ms": 350, "reason": "carrier_loss"})
    check = told(
        STARTED, ("session.started", {}), gap, ("turn.final", {"turn": turn(0, "good day", 300)}), session, ENDED
    )
    assert check.faults == []
    assert check.text("inbound") == "good day"
    assert check.finals[0].words == (("good", 300), ("day", 400))
    assert (check.events, check.sessions_started, check.gaps_ms) == (6, 1, 250)
    assert check.sessions_ended == [{"reason": "terminated"}]
    assert check.ended is not None


def test_a_repetition_is_no_fault() -> None:
    """At least once: the same id again is counted and passed over."""
    check = told(STARTED, FINAL)
    assert not check.take("msg_2", "turn.final", {"leg": LEG, "sequence": 2, "turn": turn(0)})
    assert (check.faults, check.repeated, len(check.finals)) == ([], 1, 1)


def test_another_event_of_the_same_sequence_is_a_fault() -> None:
    """One sequence, two ids."""
    check = told(STARTED, FINAL)
    check.take("msg_x", "turn.final", {"leg": LEG, "sequence": 2, "turn": turn(1)})
    assert check.faults == ["sequence 2 twice, with two ids"]


def test_a_hole_is_a_fault() -> None:
    """3 after 1."""
    check = told(STARTED)
    check.take("msg_3", "turn.final", {"leg": LEG, "sequence": 3, "turn": turn(0)})
    assert check.faults == ["sequence 3 after 1"]


def test_a_turn_is_final_once_and_in_order() -> None:
    """Twice the same, or one left out, is said."""
    assert told(STARTED, FINAL, FINAL).faults[0] == "inbound-0 is final twice"
    assert told(STARTED, ("turn.final", {"turn": turn(1)})).faults == ["inbound-1 is the turn after index -1"]


def test_nothing_follows_the_end() -> None:
    """But a call that opens anew."""
    assert told(STARTED, FINAL, ENDED, ("turn.final", {"turn": turn(1)})).faults == ["turn.final after call.ended"]
    again = told(STARTED, FINAL, ENDED, STARTED, ("turn.final", {"turn": turn(1)}), ENDED)
    assert again.faults == []


def test_the_start_is_first() -> None:
    """Something else before it is a fault."""
    assert told(FINAL).faults == ["turn.final comes first"]


def test_the_transcript_holds_what_was_final() -> None:
    """A turn fewer or more is said; null, past 4 MiB, is allowed."""
    assert told(STARTED, ENDED).faults == ["call.ended has 1 turns, 0 were final"]
    assert told(STARTED, ("call.ended", {"transcript": None})).faults == []


def test_partials_stand_beside_the_order() -> None:
    """Before their final they are nothing to complain of; after it they are, unless they withdraw."""
    check = told(STARTED)
    partial = {"leg": LEG, "sequence": 1, "turn": turn(0)}
    check.take("msg_p", "turn.partial", partial)
    check.take("msg_2", "turn.final", {"leg": LEG, "sequence": 2, "turn": turn(0)})
    check.take("msg_q", "turn.partial", {**partial, "turn": turn(0, "")})
    assert check.faults == []
    check.take("msg_r", "turn.partial", partial)
    assert check.faults == ["a partial of inbound-0 after its final"]


def test_zombies_are_counted() -> None:
    """Each."""
    assert told(STARTED, ("session.zombie", {}), ("session.zombie", {})).zombies == 2


def test_faults_are_bounded() -> None:
    """A call that is all wrong does not fill the memory."""
    check = CallCheck()
    for number in range(1000):
        check.take(f"msg_{number}", "turn.final", {"leg": LEG, "sequence": 2 * number, "turn": turn(number)})
    assert len(check.faults) == 20
