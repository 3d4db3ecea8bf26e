"""Tasks that belong together, and do not fall together."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import structlog

_log = structlog.get_logger()


class Nursery:
    """
    A group of named tasks. One that fails is logged with its name; the others go on: two calls share a process, not a fate.

    Leaving it waits for all of them, at most as long as its user allows (`asyncio.timeout` around it cancels them).
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._group.__aexit__(kind, error, trace)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Run *work* as a task of its own."""
        task = self._group.create_task(_guarded(work, name), name=name)
        task.add_done_callback(lambda _: work.close())  # one that was cancelled before its first step
        return task


async def _guarded(work: Coroutine[Any, Any, None], name: str) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  logged, with its trace
        _log.exception("task failed", task=name)
