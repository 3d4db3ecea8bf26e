"""
One session with the service: from its dialling to its confirmed close, over aiohttp.

A session is one task of the service's group (`run`), never of the leg that hears it: whatever becomes of the leg, the task goes on
until the session is closed. So there is one closer, and cancelling who listens cannot leak what was opened.

    dial ──▶ Begin ──▶ messages … ──▶ Termination ──▶ close
                          ▲
          terminate() ────┘   from any side, at any time, twice: said once, and with a deadline
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import structlog
from aiohttp import WSMsgType
from yarl import URL

from gateway.speech import protocol
from gateway.speech.liveness import Liveness
from gateway.speech.losses import Loss, said
from gateway.speech.pacing import Backlog, Pace
from gateway.speech.parameters import API_VERSION
from gateway.speech.protocol import State, Step

_log = structlog.get_logger()

SHORTEST_SECONDS: Final = 2.0
"""A lifetime under this is a clock that goes wrong, not a session's."""
LONGEST_SECONDS: Final = 10_800.0
"""The service ends every session then."""
MESSAGE_LIMIT: Final = 8 << 20
"""A `SpeakerRevision` at the end of three hours may hold every word of them: some 3 MB."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a session waits, in seconds."""

    begin: float = 10.0
    """From dialling to `Begin`, all in all."""
    late_begin: float = 20.0
    """A session that was upgraded and given up may still begin, and be billed: so long it is listened to, to terminate it."""
    ping: float = 7.0
    """Without a message it is asked for a sign; half as long again, and the line is dead."""
    close: float = 2.0
    tidy: float = 0.5


ORDINARY: Final = Patience()
_SHORTEST_SECRET: Final = 16
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


class Hearer(Protocol):
    """Who hears a session. Told at once, on the loop; must not wait."""

    def began(self, session: "Session") -> None:
        """It is open, and billed from now on. Told before who waits for `opened` wakes; so is one that begins too late."""

    def heard(self, session: "Session", message: protocol.Message) -> None:
        """Take a message that came after `Begin`. At once."""

    def over(self, session: "Session") -> None:
        """Nothing more comes of it: `session.termination`, or else `session.loss`, says how. Also of one that never began."""


class Session:
    """
    A session that *run* carries from its dialling on.

    Await `opened()` before anything is sent. Times are the loop's seconds; audio is in milliseconds.
    """

    def __init__(
        self,
        *,
        key: str,
        number: int,
        speech: Mapping[str, object],
        terminate_seconds: float,
        hearer: Hearer,
        patience: Patience = ORDINARY,
    ) -> None:
        self.key = key
        self.number = number
        self.speech = speech
        self.state = State.CONNECTING
        self.id: str | None = None
        """The service's, from `Begin` on."""
        self.expires_at: float | None = None
        """Epoch seconds, by the service."""
        self.loss: Loss | None = None
        self.termination: protocol.Termination | None = None
        self.dialled_at = 0.0
        self.begun_at: float | None = None
        self.closed_at: float | None = None
        self.sent_ms = 0.0
        self.unconfirmed = False
        """Its Terminate was never confirmed: it may be open, and billed."""
        self.unowned = False
        """Nobody fed it any more: a bug of ours, and a zombie."""
        self.terminate_by: float | None = None
        """When its Termination is overdue."""
        self.pace: Pace
        self.backlog: Backlog
        self.live: Liveness
        self._hearer = hearer
        self._terminate_seconds = terminate_seconds
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[bool] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._ws: aiohttp.ClientWebSocketResponse[Any] | None = None
        self._transport: asyncio.Transport | None = None
        self._group: asyncio.TaskGroup
        self._begin_deadline: asyncio.TimerHandle | None = None
        self._terminate_deadline: asyncio.TimerHandle | None = None
        self._abandoned = False
        self._begun_wall: float | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._secret = "\0"  # noqa: S105  what no message holds

    @property
    def lifetime_seconds(self) -> float:
        """From `Begin` until the service ends it: by its own word, where that is believable."""
        if self.expires_at is None or self._begun_wall is None:
            return LONGEST_SECONDS
        said = self.expires_at - self._begun_wall
        return min(said, LONGEST_SECONDS) if said >= SHORTEST_SECONDS else LONGEST_SECONDS

    @property
    def over(self) -> bool:
        """Nothing more comes of it."""
        return self.state is State.LOST or self.state is State.TERMINATED

    async def opened(self) -> bool:
        """Wait for `Begin`; False where it will not come (`loss` says why)."""
        return await asyncio.shield(self._opened)

    async def ended(self) -> None:
        """Wait until it is over."""
        await asyncio.shield(self._over)

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the session lives."""
        await asyncio.wait({self._over}, timeout=seconds)

    async def send(self, chunk: bytes, ms: float) -> None:
        """
        Hand one chunk to the socket; waits while the socket's buffer is full. Where the line is dead it returns as the session is over.

        Raises:
            StateFault: It is not open.
        """
        if self.state is not State.OPEN:
            protocol.follow(self.state, Step.AUDIO)  # which says what is wrong
        assert self._ws is not None
        self.live.sending(self._loop.time())
        try:
            await self._ws.send_bytes(chunk)
        except (ConnectionError, aiohttp.ClientError):
            await self.pause(self._patience.tidy)  # the reading side knows how it was lost
            self.lose(Loss("closed", 1006, "", begun=True))
            return
        now = self._loop.time()
        self.sent_ms += ms
        self.live.sent(ms, now)
        self.backlog.sent(ms, now)
        self.pace.sent(ms, now)

    def terminate(self) -> None:
        """End it, in order: last turns, revision, Termination. From any side, any number of times."""
        if self.state is State.CONNECTING:
            self._abandoned = True  # nothing may be said before Begin; `run` does it then
        elif self.state is State.OPEN:
            self.state = protocol.follow(self.state, Step.TERMINATE)
            now = self._loop.time()
            # Contract §2: "beyond the audio sent that the service, hearing at 1.0 × real time, cannot have heard yet"
            seconds = self._terminate_seconds + self.backlog.ms(now) / 1000
            self.terminate_by = now + seconds
            self._terminate_deadline = self._loop.call_at(self.terminate_by, self.unconfirm)
            self._group.create_task(self._say_terminate(), name=f"terminate {self.key}")

    def lose(self, loss: Loss) -> None:
        """Call it lost and cut the line, which carries nothing; one that does is told `Terminate` first, unheard."""
        carries = self.state is State.OPEN and loss.kind not in {"stalled", "unconfirmed"}
        self._lost(loss)
        if carries:
            self._leaving = self._group.create_task(self._leave(), name=f"leave {self.key}")
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the line: the other side hears of it at once (RST), whatever of ours it has not read."""
        if self._transport is None:
            return
        if not self._transport.is_closing():
            with contextlib.suppress(OSError):
                line = self._transport.get_extra_info("socket")
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._transport.abort()

    def unconfirm(self) -> None:
        """No Termination came in time."""
        if not self.over:
            self.unconfirmed = True
            self.lose(Loss("unconfirmed", None, "Terminate was not confirmed", begun=True))

    async def run(self, client: aiohttp.ClientSession, url: str, authorization: str) -> None:
        """
        Carry it from its dialling to its confirmed close.

        Cancelled, it is terminated in order first; cancelled again, it is cut.
        """
        self.dialled_at = self._loop.time()
        if len(authorization) >= _SHORTEST_SECRET:
            self._secret = authorization
        if self._abandoned or self.over:
            self._lost(Loss("overdue", None, "not wanted any more"))
            return
        async with asyncio.TaskGroup() as self._group:
            work = self._group.create_task(self._carry(client, url, authorization), name=f"carry {self.key}")
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                self.terminate()
                await asyncio.shield(work)
                raise

    async def _carry(self, client: aiohttp.ClientSession, url: str, authorization: str) -> None:
        try:
            await self._dial(client, url, authorization)
            await self._listen()
        except asyncio.CancelledError:
            if self.begun_at is not None:
                self.unconfirm()
            raise
        finally:
            self._lost(Loss("closed", 1006, "", begun=self.begun_at is not None))
            await self._hang_up()

    async def _dial(self, client: aiohttp.ClientSession, url: str, authorization: str) -> None:
        try:
            async with asyncio.timeout_at(self.dialled_at + self._patience.begin):
                self._ws = await client.ws_connect(
                    URL(url, encoded=True),  # else yarl writes it its own way
                    headers={"Authorization": authorization, "AssemblyAI-Version": API_VERSION},
                    heartbeat=self._patience.ping,
                    autoclose=False,
                    compress=0,
                    max_msg_size=MESSAGE_LIMIT,
                    decode_text=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=self._patience.close),
                )
        except aiohttp.WSServerHandshakeError as error:
            # Neither its message nor its headers are kept: they may hold the request's.
            self._lost(Loss("http", error.status, ""))
        except TimeoutError:
            self._lost(Loss("no_begin", None, "no answer"))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._lost(Loss("unreachable", None, type(error).__name__))
        else:
            # aiohttp has no public way to cut a WebSocket's line at once; close() waits for a peer that may be dead.
            connection = self._ws._response.connection  # noqa: SLF001
            self._transport = None if connection is None else connection.transport
            self._begin_deadline = self._loop.call_at(self.dialled_at + self._patience.begin, self._no_begin)

    def _no_begin(self) -> None:
        """Tell who waits that this one is too late; yet listen on, for a Begin that must be answered by Terminate."""
        self._abandoned = True
        self.loss = Loss("no_begin", None, "no Begin in time")
        self._answer(opened=False)
        self._terminate_deadline = self._loop.call_later(self._patience.late_begin, self.abort)

    async def _listen(self) -> None:
        ws = self._ws
        while ws is not None and not self.over:
            frame = await ws.receive()
            if frame.type is WSMsgType.TEXT:
                # Whatever the service repeats, our key is not among what is said of it.
                self._take(protocol.read(frame.data.replace(self._secret.encode(), b"***")))
            elif frame.type is WSMsgType.BINARY:
                self._hear(protocol.Malformed("binary"))
            elif frame.type is WSMsgType.CLOSE:
                why = str(frame.extra or "").replace(self._secret, "***")
                self._lost(Loss("closed", frame.data or 1006, why[:200], begun=self.begun_at is not None))
            else:
                self._gone(ws.exception())

    def _gone(self, error: BaseException | None) -> None:
        """The line ended without a close frame."""
        begun = self.begun_at is not None
        if not isinstance(error, aiohttp.ServerTimeoutError):
            # What aiohttp could not read (a reserved bit, a message beyond the limit) ends the connection as well.
            self._lost(Loss("closed", 1006, type(error).__name__ if error else "", begun=begun))
        elif self.state is State.TERMINATING:
            self.unconfirm()
        else:
            self.lose(Loss("stalled", None, "no answer to a ping", begun=begun))

    def _take(self, message: protocol.Message) -> None:
        if isinstance(message, protocol.Begin) and self.state is State.CONNECTING:
            self._begin(message)
            return
        if isinstance(message, protocol.Error):
            self._lost(said(message.error_code, message.error, begun=self.begun_at is not None))
            return
        if self.begun_at is None:
            self._hear(protocol.Malformed("before Begin"))
            return
        now = self._loop.time()
        if isinstance(message, protocol.Heartbeat):
            # One without its factor is broken; its count is not believed.
            self.live.heartbeat(message.total_audio_received_ms if message.realtime_factor is not None else None, now)
        else:
            self.live.heard(now)
        self._hear(message)
        if isinstance(message, protocol.Termination) and not self.over:
            self.state = protocol.follow(self.state, Step.TERMINATION)
            self.termination = message
            self._finish()

    def _begin(self, message: protocol.Begin) -> None:
        now = self._loop.time()
        self.state = protocol.follow(self.state, Step.BEGIN)
        self.begun_at = now
        self._begun_wall = time.time()
        self.id = message.id[:200] or self.key
        self.expires_at = message.expires_at
        self.pace, self.backlog = Pace(now), Backlog(now)
        self.live = Liveness(now, heartbeats=bool(self.speech.get("session_heartbeat")))
        self._disarm()
        try:
            self._hearer.began(self)
        except Exception:  # noqa: BLE001  logged, with its trace
            _log.exception("a session could not be taken", session=self.key)
            self._abandoned = True  # what nobody hears is not kept open
            self.loss = Loss("closed", 1006, "nobody hears it", begun=True)
            self._answer(opened=False)
        if self._abandoned:
            self.terminate()
        self._answer(opened=True)

    def _hear(self, message: protocol.Message) -> None:
        try:
            self._hearer.heard(self, message)
        except Exception:  # noqa: BLE001  logged, with its trace
            # A bug of ours in one message must not cost the session's next ones.
            _log.exception("message could not be taken", session=self.key, kind=type(message).__name__)

    def _lost(self, loss: Loss) -> None:
        if self.over:
            return
        self.state = protocol.follow(self.state, Step.LOST)
        self.loss = self.loss or loss
        self._finish()

    def _finish(self) -> None:
        self.closed_at = self._loop.time()
        self._answer(opened=False)
        self._over.set_result(None)
        try:
            self._hearer.over(self)
        except Exception:  # noqa: BLE001  logged, with its trace
            # Its line is still to be closed.
            _log.exception("a session's end could not be taken", session=self.key)

    def _answer(self, *, opened: bool) -> None:
        if not self._opened.done():
            self._opened.set_result(opened)

    async def _say_terminate(self) -> None:
        assert self._ws is not None
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            await self._ws.send_str(protocol.TERMINATE.decode())

    async def _leave(self) -> None:
        """Lost for a reason of ours: it is terminated there all the same, and what it says of it is passed over."""
        assert self._ws is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience.close):
                await self._say_terminate()
                await self._ws.close()

    def _disarm(self) -> None:
        """What the deadlines waited for has come, or will not."""
        for deadline in (self._begin_deadline, self._terminate_deadline):
            if deadline is not None:
                deadline.cancel()

    async def _hang_up(self) -> None:
        """Close the line; where the peer does not answer, cut it."""
        self._disarm()
        if self._ws is None:
            return
        try:
            if self._leaving is not None:
                await self._leaving
            # A line that was lost is only tidied up; one that was told its end hears the other side's close.
            told = self.state is State.TERMINATED
            async with asyncio.timeout(self._patience.close if told else self._patience.tidy):
                await self._ws.close()
        except (TimeoutError, ConnectionError, aiohttp.ClientError):
            pass
        finally:
            self.abort()
