"""
A command of this package as a process of its own, for as long as it is needed: `python -m gateway COMMAND`.

It is ready when it has printed its addresses (`listening NAME=URL`), and is ended by SIGTERM, with patience, then by
SIGKILL. What it wrote on standard error is kept, its last lines, for whoever has to say why it would not start.
"""

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

START_SECONDS: Final = 20.0
_KEPT_LINES: Final = 200
_LISTENING: Final = re.compile(r"listening (\w+)=(\S+)")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OURS: Final = ("GATEWAY_", "ASSEMBLYAI_")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class NotStarted(Exception):
    """The process ended, or said nothing, before it was ready; the message holds its last words."""


_libc: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG: Final = 1


def _end_with_parent() -> None:
    """In the new process: a parent that is killed takes it along, so that nothing is left behind (Linux only)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _Pipes(asyncio.SubprocessProtocol):
    """What the process writes, a line at a time; `changed` is set at each line of addresses and at the end."""

    def __init__(self) -> None:
        self.listening: dict[str, str] = {}
        self.errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self.changed = asyncio.Event()
        self.exited = asyncio.Event()
        self._unended = {1: b"", 2: b""}

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        *lines, self._unended[fd] = (self._unended[fd] + data).split(b"\n")
        for line in lines:
            self._line(fd, line.decode(errors="replace").rstrip())

    def pipe_connection_lost(self, fd: int, _exc: Exception | None) -> None:
        rest = self._unended.pop(fd, b"")
        if rest:
            self._line(fd, rest.decode(errors="replace").rstrip())

    def connection_lost(self, _exc: Exception | None) -> None:
        """It has exited, and its pipes are read to the end."""
        self.exited.set()
        self.changed.set()

    def _line(self, fd: int, line: str) -> None:
        if fd == 2:
            self.errors.append(line)
        elif found := _LISTENING.search(line):
            self.listening[found[1]] = found[2]
            self.changed.set()


class Command:
    """One process, while it is entered. *expects* are the names of the addresses that it must print."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        expects: Collection[str] = (),
        start_seconds: float = START_SECONDS,
        stop_seconds: float = 15.0,
        program: tuple[str, ...] = ("-P", "-m", "gateway"),
    ) -> None:
        self.name = " ".join(arguments[:1] or program[-1:])
        self._told = (sys.executable, *program, *arguments)
        self._environment = inherited(os.environ) | {"PYTHONUNBUFFERED": "1", **(environment or {})}
        self._expects = frozenset(expects)
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._pipes = _Pipes()
        self._transport: asyncio.SubprocessTransport | None = None

    async def __aenter__(self) -> Self:
        """
        Start it, and wait until it is ready.

        Raises:
            NotStarted: It is not.
        """
        # A session of its own: Ctrl-C is ours alone, and its end is asked for in order.
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self._pipes,
            *self._told,
            stdin=None,
            env=self._environment,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        self._transport = transport
        pipes = self._pipes
        try:
            async with asyncio.timeout(self._start_seconds):
                while not pipes.exited.is_set() and not self._expects <= set(pipes.listening):
                    pipes.changed.clear()
                    await pipes.changed.wait()
        except TimeoutError:
            await self.stop()
            raise NotStarted(self._complaint(f"was not ready within {self._start_seconds:g} s")) from None
        except BaseException:
            await self.stop()
            raise
        if pipes.exited.is_set():
            await self.stop()
            raise NotStarted(self._complaint(f"exited with {self.exit_code}"))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    @property
    def listening(self) -> Mapping[str, str]:
        """Addresses by name, as printed."""
        return self._pipes.listening

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._transport is not None
        return self._transport.get_pid()

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._transport is None else self._transport.get_returncode()

    @property
    def last_words(self) -> str:
        """The end of what it wrote on standard error."""
        return "\n".join(self._pipes.errors)

    async def exited(self) -> None:
        """Wait for its end."""
        await self._pipes.exited.wait()

    async def stop(self) -> int | None:
        """End it now; its exit code."""
        transport = self._transport
        if transport is None:
            return None
        try:
            if not self._pipes.exited.is_set():
                with suppress(ProcessLookupError):
                    transport.send_signal(signal.SIGTERM)
                async with asyncio.timeout(self._stop_seconds):
                    await self._pipes.exited.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                transport.kill()
            await self._pipes.exited.wait()
        finally:
            transport.close()  # which also kills what still runs
        return transport.get_returncode()

    def _complaint(self, what: str) -> str:
        said = f":\n{self.last_words}" if self._pipes.errors else ", without a word"
        return f"`gateway {self.name}` {what}{said}"


_heeding: list["asyncio.Task[Any]"] = []


@contextmanager
def cancelled_by_signals(task: "asyncio.Task[Any]") -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP cancel a task while this is entered, so that what it started is ended in order; may be nested."""
    loop = asyncio.get_running_loop()
    _heeding.append(task)
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        _heeding.pop()
        for number in _SIGNALS:
            if _heeding:
                loop.add_signal_handler(number, _heeding[-1].cancel)
            else:
                loop.remove_signal_handler(number)


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run a command's coroutine; gives its exit code, or 130 where a signal ended it."""

    async def heeded() -> int:
        task = asyncio.current_task()
        assert task is not None
        with cancelled_by_signals(task):
            return await work

    try:
        return asyncio.run(heeded())
    except asyncio.CancelledError:
        return 130


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the operator's settings of a gateway: what such a process needs it is given."""
    return {name: value for name, value in environ.items() if not name.startswith(_OURS)}


def usage(pid: int) -> tuple[float, int]:
    """CPU seconds so far and resident bytes of a process; Linux only, zeros elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE
