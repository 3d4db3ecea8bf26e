"""
A leg's audio between its carrier and its session: bounded, and the oldest gives way.

Bytes of G.711 by position (samples at 8 kHz on the call's clock). What was heard for certain is forgotten by the leg;
what may have to be heard again stays, up to the capacity. One reader at a time may wait for more.
"""

import asyncio
from collections import deque
from typing import Final

_BLOCK: Final = 4000
"""Bytes of a run before the next one begins: what is forgotten goes run by run, so nothing is ever moved, and freed blocks
of about one size serve other legs."""

_MOST_ARRIVALS: Final = 4096
"""Frames whose arrival is kept to be told: over a minute's, where nobody asks."""


class _Run:
    """Bytes without a hole, the first of them at `start`; the next run may follow without one."""

    __slots__ = ("data", "start")

    def __init__(self, start: int, data: bytearray) -> None:
        self.start = start
        self.data = data

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class AudioBuffer:
    """`push` at the head, `read` from anywhere that is still held."""

    def __init__(self, capacity: int) -> None:
        """`capacity` is in samples (one byte each); holes do not count."""
        self.capacity = capacity
        self.floor = 0
        """The lowest position that can still be read; what was below it has been forgotten or has given way."""
        self.head = 0
        """Position behind the newest audio."""
        self.empty = True
        """True until the first push."""
        self._runs: deque[_Run] = deque()
        self._size = 0
        self._arrivals: deque[tuple[int, float]] = deque(maxlen=_MOST_ARRIVALS)
        self._waiter: asyncio.Future[None] | None = None
        self._wake_at = 0

    def __len__(self) -> int:
        """Samples held."""
        return self._size

    def push(self, at: int, payload: bytes, arrived: float | None) -> None:
        """
        Add audio at position `at`, which may jump ahead of `head` but never lies behind it.

        Where that exceeds the capacity the oldest gives way: `floor` rises, and whoever reads sees it.
        """
        size = len(payload)
        if not size:
            return
        if self.empty:
            self.empty = False
            self.floor = self.head = at
            self.wake()
        head, runs = self.head, self._runs
        if at > head or not runs or len(runs[-1].data) >= _BLOCK:
            head = max(at, head)
            runs.append(_Run(head, bytearray(payload)))
        else:
            runs[-1].data += payload
        self.head = head = head + size
        self._size += size
        if arrived is not None:
            self._arrivals.append((head, arrived))
        if self._size > self.capacity:
            self._give_way()
        if self._waiter is not None and head >= self._wake_at:
            self.wake()

    def forget(self, before: int) -> None:
        """Let everything before a position go."""
        before = min(before, self.head)
        if before <= self.floor:
            return
        runs = self._runs
        while runs and runs[0].end <= before:
            self._size -= runs[0].end - max(runs[0].start, self.floor)
            runs.popleft()
        if runs and runs[0].start < before:
            self._size -= before - max(runs[0].start, self.floor)
        self.floor = before

    def read(self, at: int, size: int) -> tuple[int, bytes]:
        """
        Up to `size` bytes without a hole, and the position where they begin: `at`, or the next held after it.

        Empty bytes where nothing is held from there on.
        """
        at = max(at, self.floor)
        runs = self._runs
        if runs and (last := runs[-1]).start <= at:  # nearly always
            return at, bytes(last.data[at - last.start : at - last.start + size])
        begin: int | None = None
        parts: list[bytearray] = []
        for run in runs:
            if begin is None:
                if run.end <= at:
                    continue
                begin = behind = max(at, run.start)
            elif run.start != behind or behind >= begin + size:
                break
            offset = behind - run.start
            parts.append(run.data[offset : offset + begin + size - behind])
            behind = run.end
        return (at, b"") if begin is None else (begin, b"".join(parts))

    def arrivals(self, until: int) -> list[float]:
        """When the frames up to a position were read from the carrier, each told once: for measuring the delay."""
        told = []
        while self._arrivals and self._arrivals[0][0] <= until:
            told.append(self._arrivals.popleft()[1])
        return told

    async def more(self, than: int) -> None:
        """Wait until `head` reaches a position, or until `wake` is called; the very first push wakes, too."""
        if self.head >= than:
            return
        self._wake_at = than
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            if self._waiter is waiter:  # else the next span's reader waits already
                self._waiter = None

    def wake(self) -> None:
        """Let the waiting reader look again: there is more, or there will be no more."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _give_way(self) -> None:
        excess = self._size - self.capacity
        for run in self._runs:
            begin = max(run.start, self.floor)
            if begin + excess < run.end:
                self.forget(begin + excess)
                break
            excess -= run.end - begin
        else:
            self.forget(self.head)
        self.arrivals(self.floor)  # nobody will hear these
