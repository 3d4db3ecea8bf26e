"""What a carrier does with its sockets during a call, as data: the seam between its machine and the player."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from gateway.simulator.audio import Span


class Say(NamedTuple):
    """One text message, due so many seconds after the stream began; *audio* is what of the call is in it."""

    due: float
    text: bytes
    audio: Span | None = None


class Leave(NamedTuple):
    """The stream's end: a close, a TCP reset, or a socket that stays open and says nothing (*hold* seconds, then a reset)."""

    due: float
    how: Literal["close", "abort", "silence"]
    hold: float = 60.0


Step = Say | Leave


class Stream(NamedTuple):
    """One media WebSocket of a call; its first step is due *after* seconds from the end of the one before it."""

    stream_id: str
    steps: Iterator[Step]
    after: float = 0.0


def ending(due: float, how: str) -> Leave:
    """The end that follows the last message; a stop is followed by a close."""
    match how:
        case "abort":
            return Leave(due, "abort")
        case "silence":
            return Leave(due, "silence")
        case _:
            return Leave(due, "close")
