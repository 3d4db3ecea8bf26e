"""
One client's WebSocket, from the upgrade to its end: reads, hears and ticks at once; whichever ends first ends all.

The protocol is `session.py`'s, the turns are `turns.py`'s; what is done here is waiting, sending, and failing as asked.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn, TypeVar

from aiohttp import WebSocketError, WSMsgType, web

from gateway.emulator import messages
from gateway.emulator.faults import Cut, Faults, How
from gateway.emulator.ledger import NEGLECT
from gateway.emulator.ledger import Session as Line
from gateway.emulator.messages import Message, Word
from gateway.emulator.parameters import Refusal
from gateway.emulator.recogniser import Recognition, listen
from gateway.emulator.session import Configure, Finish, Force, Hear, Pace, Protocol, Step, as_text
from gateway.emulator.turns import Turns

REASON: Final = "See Error message for details"
"""The live service's only close reason beside "Session Ended": the `Error` message before it says what happened."""

_PIECE_MS: Final = 100
_SPEECH_MS: Final = 200
"""Silence shorter than this is a pause in speech."""
_LATE_BEGIN_SECONDS: Final = 5.0
"""A client that leaves after waiting so long for `Begin` is not to blame."""
_GONE_SECONDS: Final = 0.1
_HOLD_SECONDS: Final = 60.0
_PEER_IS_THERE: Final = (1, 4, 5)
"""Linux's TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2: the peer has not closed its side."""


Failing = TypeVar("Failing", bound=BaseException)


class Over(Exception):
    """The connection ends: `ended` for the ledger, `how` on the wire (None: the peer has gone), with `code` and `reason`."""

    def __init__(self, ended: str, how: How | None, code: int = 1000, reason: str = "") -> None:
        super().__init__(ended)
        self.ended, self.how, self.code, self.reason = ended, how, code, reason


class Connection:
    """
    One session on an upgraded socket, its parameters (in *line*) accepted.

    *cut* is called when a fault cuts the connection, *changed* after every change that somebody may be waiting for.
    """

    def __init__(
        self,
        request: web.Request,
        socket_: web.WebSocketResponse,
        line: Line,
        *,
        cap_seconds: float,
        recognition: Recognition,
        knobs: Faults,
        clock: Callable[[], float],
        cut: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self.line = line
        self._request = request
        self._socket = socket_
        self._knobs = knobs
        self._unix = clock
        self._cut = cut
        self._changed = changed
        self._silent = False
        self._fault: str | None = None
        self._malformed = 0
        self._work: asyncio.Queue[Step] = asyncio.Queue()
        self._begun = asyncio.Event()
        self._poke = asyncio.Event()
        self._cap_seconds = cap_seconds
        self._protocol = Protocol(line.parameters, knobs, line)
        self._turns = Turns(line.parameters, knobs)
        self._recogniser, self._decode = listen(recognition, line.parameters)

    async def run(self) -> None:
        """Serve the session to its end."""
        over: Over | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(), name=f"emulator-read-{self.line.number}")
                tasks.create_task(self._hear(), name=f"emulator-hear-{self.line.number}")
                tasks.create_task(self._tick(), name=f"emulator-tick-{self.line.number}")
                await self._begin()
        except* Refusal as refusals:
            over = await self._refused(_first(refusals))
        except* Over as endings:
            over = over or _first(endings)
        except* ConnectionError:
            over = over or Over("abort", None)
        if over is not None:
            await self._end(over)

    def stop(self) -> None:
        """Drop the connection: the service is going down."""
        self.line.end("fault:stopped", self._unix())
        if self._request.transport is not None:
            self._request.transport.abort()

    # What runs side by side.

    async def _begin(self) -> None:
        knobs = self._knobs
        if knobs.failure is not None and knobs.failure.second is None:
            raise Refusal(knobs.failure.code, knobs.failure.text)
        if knobs.never_begin:
            self._fault = "never_begin"
            return
        await asyncio.sleep(min(knobs.begin_delay_seconds, _LATE_BEGIN_SECONDS))
        if knobs.begin_delay_seconds > _LATE_BEGIN_SECONDS:
            self._fault = "late_begin"
            await asyncio.sleep(knobs.begin_delay_seconds - _LATE_BEGIN_SECONDS)
            self._fault = None
        await self._send(self._protocol.begin(self._now(), self._unix(), self._cap_seconds))
        if knobs.extras:
            await self._send(messages.warning(1001, "this session is asked to warn"))
        self._begun.set()
        self._changed()
        await self._trip()

    async def _read(self) -> None:
        protocol = self._protocol
        while True:
            message = await self._socket.receive()
            steps: list[Step] = []
            if self._silent and message.type in (WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.PING):
                continue  # it never came
            if message.type is WSMsgType.BINARY:
                steps = protocol.receive_audio(self._now(), self._unix(), message.data)
            elif message.type is WSMsgType.TEXT:
                steps = protocol.receive_text(self._now(), self._unix(), message.data)
                self._poke.set()
            elif message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is WSMsgType.CLOSE:
                raise Over("client_close_without_terminate", "close")
            elif isinstance(message.data, WebSocketError) and message.data.code == 1009:
                raise Over("error:1009", None)
            elif message.type is not WSMsgType.PONG:
                raise Over("abort", None)
            for step in steps:
                if isinstance(step, Finish):
                    self._terminating()
                self._work.put_nowait(step)
            await self._trip()
            self._changed()

    def _terminating(self) -> None:
        """`Terminate` came: fail it, if asked to."""
        if self._knobs.drop_after_terminate is not None:
            raise Over("fault:drop_after_terminate", self._knobs.drop_after_terminate)

    async def _hear(self) -> None:
        await self._begun.wait()
        pace = Pace(self._knobs.speed, self._now())
        while True:
            step = await self._work.get()
            match step:
                case Hear(payload, duration_ms):
                    size = max(1, len(payload) if not duration_ms else self._piece_bytes)
                    for at in range(0, len(payload), size):
                        piece = payload[at : at + size]
                        wait = pace.wait_seconds(self._now(), duration_ms * len(piece) / len(payload))
                        if wait:
                            await asyncio.sleep(wait)
                        self._recogniser.feed(self._decode(piece))
                        await self._look()
                case Force():
                    await self._final(await self._recogniser.cut())
                case Configure(parameters):
                    self._turns.parameters = parameters
                case Finish():
                    await self._finish()

    @property
    def _piece_bytes(self) -> int:
        parameters = self._protocol.parameters
        width = parameters.bytes_a_second // parameters.sample_rate
        return parameters.sample_rate * _PIECE_MS // 1000 * width

    async def _tick(self) -> None:
        await self._begun.wait()
        while True:
            for message in self._protocol.due(self._now(), self._recogniser.heard_ms):
                await self._send(message)
            self._poke.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, self._protocol.next_due() - self._now())):
                    await self._poke.wait()

    # What is heard, and said.

    async def _look(self) -> None:
        recogniser, turns = self._recogniser, self._turns
        self._protocol.heard(speech=recogniser.silence_ms < _SPEECH_MS)
        heard_ms = recogniser.heard_ms
        due = turns.look(heard_ms, recogniser.silence_ms, recogniser.since_ms)
        if due == "final":
            await self._final(await recogniser.cut())
        elif due == "partial":
            await self._say(turns.partial(heard_ms, await recogniser.words()))
        if recogniser.since_ms is None:
            await self._say(turns.silence(heard_ms, recogniser.silence_ms))
        if turns.revision_due(heard_ms):
            await self._say(turns.revision(heard_ms))

    async def _final(self, words: Sequence[Word]) -> None:
        said = self._turns.final(words)
        self.line.heard += [(word.text, word.start_ms, word.end_ms) for word in words]
        self.line.turns = self._turns.ended
        await self._say(said)
        self._changed()

    async def _finish(self) -> None:
        """Last words, revision, `Termination`, close."""
        knobs, turns = self._knobs, self._turns
        if knobs.never_acknowledge_terminate:
            self._fault = "never_acknowledge_terminate"
            return
        last = await self._recogniser.flush()
        if knobs.unordered_revision:
            await self._say(turns.revision(self._recogniser.heard_ms))
        await self._final(last)
        if knobs.empty_final:
            await self._say(turns.empty())
        await self._say(turns.revision(self._recogniser.heard_ms))
        if knobs.termination_delay_seconds:
            await asyncio.sleep(knobs.termination_delay_seconds)
        await self._send(self._protocol.terminated(self._unix()))
        raise Over("client_terminate", "close", 1000, "Session Ended")

    async def _say(self, said: list[Message]) -> None:
        for message in said:
            await self._send(message)

    async def _send(self, message: Message) -> None:
        if self._silent:
            return
        await self._socket.send_str(as_text(message))
        if self._knobs.malformed and message["type"] in ("Begin", "Turn"):
            kind = self._knobs.malformed[self._malformed % len(self._knobs.malformed)]
            self._malformed += 1
            raw = messages.MALFORMED[kind]
            await (self._socket.send_str(raw) if isinstance(raw, str) else self._socket.send_bytes(raw))

    # How it fails.

    async def _trip(self) -> None:
        """Fail, if the audio has come to where failing was asked for."""
        knobs, second = self._knobs, self.line.audio_ms / 1000
        if not self._begun.is_set():
            return
        if knobs.failure is not None and knobs.failure.second is not None and second >= knobs.failure.second:
            raise Refusal(knobs.failure.code, knobs.failure.text)
        if knobs.cut is not None and second >= knobs.cut.second:
            self._fall(knobs.cut)
        if knobs.black_hole_second is not None and second >= knobs.black_hole_second:
            self._silent, self._fault = True, "black_hole"
        if knobs.stall_second is not None and second >= knobs.stall_second:
            self._fault = "stall"
            await self._stall()

    def _fall(self, cut: Cut) -> NoReturn:
        self._cut()
        raise Over("fault:cut", cut.how, cut.code)

    async def _stall(self) -> NoReturn:
        """Read nothing any more, not even pings, until the peer has gone: the TCP window fills."""
        if self._request.transport is not None:
            self._request.transport.pause_reading()
        await self._peer_gone()
        raise Over("abort", None)

    def _gone(self) -> bool:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return True
        tcp_info: int | None = getattr(socket, "TCP_INFO", None)
        if tcp_info is None:  # not Linux: the socket ends with the emulator
            return False
        state: bytes = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, tcp_info, 1)
        return state[0] not in _PEER_IS_THERE

    # How it ends.

    async def _refused(self, refusal: Refusal) -> Over:
        with suppress(ConnectionError):
            await self._send(messages.error(refusal.code, refusal.text))
        return Over(refusal.ending, "close", refusal.code, REASON)

    async def _end(self, over: Over) -> None:
        ended, how = over.ended, over.how
        if self._silent:
            ended, how = "fault:black_hole", None
        elif ended in NEGLECT:  # the client has gone; perhaps it had said so, or had no other choice
            if self._fault is not None:
                ended = f"fault:{self._fault}"
            elif self.line.terminated_at is not None:
                ended = "client_terminate"
        self.line.end(ended, self._unix())
        self._changed()
        transport = self._request.transport
        if transport is None:
            return
        if how == "rst":
            reset(transport)
        elif how == "fin":
            transport.write_eof()
            await self._wait_until_gone(2.0)
            transport.abort()
        elif how == "close":
            await self._socket.close(code=over.code, message=over.reason.encode())
        else:
            if self._silent:  # a half-open link does not answer a close either
                await self._wait_until_gone(_HOLD_SECONDS)
            transport.abort()

    async def _wait_until_gone(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._peer_gone()

    async def _peer_gone(self) -> None:
        while not self._gone():  # noqa: ASYNC110  a socket that is not read does not say that its peer has gone
            await asyncio.sleep(_GONE_SECONDS)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


async def refuse(socket_: web.WebSocketResponse, refusal: Refusal) -> None:
    """Answer an upgrade whose parameters or credentials are not accepted: after it, as the live service does."""
    with suppress(ConnectionError):
        await socket_.send_str(as_text(messages.error(refusal.code, refusal.text)))
    await socket_.close(code=refusal.code, message=REASON.encode())


def reset(transport: asyncio.Transport) -> None:
    """End a TCP connection with RST."""
    linger_none = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    transport.abort()


def _first(group: BaseExceptionGroup[Failing]) -> Failing:
    """The first failure of a group."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
