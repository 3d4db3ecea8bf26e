"""The loops that tests of this room run on."""

import asyncio
import selectors
import sys
from collections.abc import Callable
from typing import Any

WIRE: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
"""Those that the gateway itself runs on."""

if sys.platform != "win32":
    import uvloop

    WIRE["uvloop"] = uvloop.new_event_loop


class Jumping(asyncio.SelectorEventLoop):
    """A loop whose time stands still while there is work, and jumps to the next timer when there is none. No sockets."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_Impatient(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _Impatient(selectors.SelectSelector):
    def __init__(self, loop: Jumping) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen")
        found = super().select(0)
        if not found:
            self._loop.jump(timeout)
        return found
