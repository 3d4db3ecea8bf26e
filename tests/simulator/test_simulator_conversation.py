"""A conversation on a screen: finals as lines, partials in grey until then."""

from io import StringIO
from typing import Any

from rich.console import Console

from gateway.simulator.conversation import Conversation
from gateway.simulator.receiver import Arrival, Event

AGENT = {"track": "outbound", "party": "agent"}
CUSTOMER = {"track": "inbound", "party": "customer"}


def arrival(kind: str, *, accepted: bool = True, **data: Any) -> Arrival:
    """An event that came."""
    return Arrival(0.0, "msg_1", Event(kind, "", data), accepted)


def turn(index: int, text: str, start_ms: int = 0, speaker: str | None = None) -> dict[str, Any]:
    """A turn as far as it is shown."""
    return {"id": f"x-{index}", "text": text, "start_ms": start_ms, "speaker": speaker}


def shown(*arrivals: Arrival, terminal: bool = False) -> str:
    """What stood on the screen, all of it."""
    screen = StringIO()
    with Conversation(Console(file=screen, width=100, force_terminal=terminal, color_system=None)) as conversation:
        for one in arrivals:
            conversation.take(one)
    return screen.getvalue()


def test_who_said_what_and_when() -> None:
    """A line a turn, with its time on the call's clock, its party and its speaker."""
    text = shown(
        arrival("call.started"),
        arrival("turn.final", leg=AGENT, turn=turn(0, "how can i help you", 812, "outbound:A")),
        arrival("turn.final", leg=CUSTOMER, turn=turn(0, "my order is late", 63_250)),
        arrival("call.ended"),
    )
    assert [line.split() for line in text.splitlines()] == [
        ["0:00.8", "agent", "A", "how", "can", "i", "help", "you"],
        ["1:03.2", "customer", "my", "order", "is", "late"],
    ]


def test_off_a_terminal_partials_are_not_shown() -> None:
    """Only what is final is worth a line."""
    assert shown(arrival("turn.partial", leg=AGENT, turn=turn(0, "how can"))) == ""


def test_on_a_terminal_a_partial_stands_until_its_final() -> None:
    """It is drawn, and wiped where it was withdrawn or became final."""
    partial = arrival("turn.partial", leg=AGENT, turn=turn(0, "how can"))
    final = arrival("turn.final", leg=AGENT, turn=turn(0, "how can i help"))
    text = shown(partial, final, terminal=True)
    assert text.index("how can") < text.index("how can i help")
    assert text.count("how can i help") == 1
    withdrawn = arrival("turn.partial", leg=AGENT, turn=turn(0, ""))
    assert shown(partial, withdrawn, terminal=True).count("how can") == 1


def test_troubles_are_shown() -> None:
    """Gaps and zombies, each with its reason; speakers that were made out later."""
    text = shown(
        arrival("audio.gap", leg=CUSTOMER, start_ms=1000, end_ms=2500, reason="carrier_loss"),
        arrival("session.zombie", leg=AGENT, reason="unconfirmed_terminate"),
        arrival("turn.revised", leg=AGENT, turns=[turn(0, "yes", 0, "outbound:B")]),
    )
    assert "customer: audio lost from 0:01.0 to 0:02.5 (carrier_loss)" in text
    assert "agent: a session may still be open (unconfirmed_terminate)" in text
    assert "outbound:B" in text


def test_what_was_not_accepted_is_not_shown() -> None:
    """It will come again."""
    assert shown(arrival("turn.final", accepted=False, leg=AGENT, turn=turn(0, "hello"))) == ""
