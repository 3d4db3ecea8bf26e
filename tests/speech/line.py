"""A speech service between a test and an emulator, or a peer that does as it is told; and somebody who hears its sessions."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

from aiohttp import web

from gateway.call import Track
from gateway.config import speech
from gateway.config.values import Findings
from gateway.cost import Rates
from gateway.emulator.tones import pcm, script
from gateway.metrics import Metrics
from gateway.speech import protocol
from gateway.speech.ledger import StoredSession
from gateway.speech.service import Order, Service, opening
from gateway.speech.session import Patience, Session

KEY: Final = "0123456789abcdef-the-key"
SPEECH: Final = speech.parameters({}, "resampled", "here", Findings())
QUICK: Final = Patience(begin=4.0, late_begin=1.0, ping=30.0, close=0.3, tidy=0.1)
"""Shorter than life where only time would pass."""
CHUNK_MS: Final = 100


class Heard:
    """Whoever hears a session: what it was told, and when to go on."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.messages: list[protocol.Message] = []
        self.ended: list[Session] = []
        self.owned = True
        self.kept: list[StoredSession] = []
        self._changed = asyncio.Event()

    def began(self, session: Session) -> None:
        self.sessions.append(session)
        self.change()

    def heard(self, session: Session, message: protocol.Message) -> None:
        self.messages.append(message)
        self.change()

    def over(self, session: Session) -> None:
        self.ended.append(session)
        self.change()

    async def keep(self, stored: StoredSession) -> None:
        self.kept.append(stored)

    def change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that is told."""
        async with asyncio.timeout(10):
            while not condition():
                await self._changed.wait()

    @property
    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.messages]

    @property
    def words(self) -> list[str]:
        """Of all finals."""
        finals = [message for message in self.messages if isinstance(message, protocol.Turn) and message.end_of_turn]
        return [word for turn in finals for word in turn.transcript.split()]


def order(heard: Heard, track: Track = "inbound", **changed: object) -> Order:
    """What a leg would ask for; *changed* are parameters."""
    return Order(
        call_id="CA1",
        track=track,
        number=1,
        speech={**SPEECH, **changed},
        hearer=heard,
        owned=lambda: heard.owned,
        keep=heard.keep,
    )


@asynccontextmanager
async def house(
    url: str,
    *,
    api_key: str = KEY,
    terminate_seconds: float = 5.0,
    per_minute: int = 6000,
    patience: Patience = QUICK,
    token_cap_seconds: int | None = None,
) -> AsyncIterator[Service]:
    """A service at an address."""
    async with (
        asyncio.timeout(30),
        opening(
            url=url,
            api_key=api_key,
            terminate_seconds=terminate_seconds,
            sessions_per_minute=per_minute,
            rates=Rates(),
            metrics=Metrics(),
            token_cap_seconds=token_cap_seconds,
            patience=patience,
        ) as service,
    ):
        yield service


async def dial(service: Service, heard: Heard, **changed: object) -> Session:
    """A session that is let in and dialled."""
    await service.admission.enter("new")
    return service.dial(order(heard, "inbound", **changed))


async def opened(service: Service, heard: Heard, **changed: object) -> Session:
    """One that has begun."""
    session = await dial(service, heard, **changed)
    assert await session.opened(), session.loss
    return session


def chunks(seconds: float) -> list[bytes]:
    """Coded speech in legal chunks."""
    audio = pcm(script(seconds), seconds, 16000)
    size = 16000 * CHUNK_MS // 1000 * 2
    return [audio[at : at + size] for at in range(0, len(audio), size)]


async def speak(session: Session, seconds: float) -> None:
    """Send coded speech as fast as it goes."""
    for chunk in chunks(seconds):
        if session.over:
            return
        await session.send(chunk, CHUNK_MS)


def works() -> set[asyncio.Task[Any]]:
    """The tasks that carry sessions, each from before its dialling to its confirmed close."""
    return {task for task in asyncio.all_tasks() if re.fullmatch(r"session \S+ of \S+", task.get_name())}


async def closed(service: Service) -> None:
    """Wait until the ledger is empty: every session's close is confirmed."""
    if tasks := works():
        _, late = await asyncio.wait(tasks, timeout=10)
        assert not late
    assert not any(service.ledger)


Act = Callable[[web.Request, web.WebSocketResponse], Awaitable[None]]

BEGIN: Final = '{"type":"Begin","id":"s-1","expires_at":4000000000}'
TERMINATION: Final = '{"type":"Termination","audio_duration_seconds":1,"session_duration_seconds":2}'


class Peer:
    """A service that does as each test says; and what it was sent, text by text."""

    def __init__(self, act: Act) -> None:
        self.url = ""
        self.requests: list[web.Request] = []
        self.texts: list[str] = []
        self._act = act

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v3/ws", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse(autoclose=False, max_msg_size=0)
        await socket.prepare(request)
        with suppress(ConnectionError):
            await self._act(request, socket)
        return socket

    async def until_terminate(self, socket: web.WebSocketResponse) -> None:
        """Read to the client's `Terminate`, or to its end."""
        async for message in socket:
            if isinstance(message.data, str):
                self.texts.append(message.data)
                if "Terminate" in message.data:
                    return


@asynccontextmanager
async def raw_peer(answer: bytes) -> AsyncIterator[str]:
    """Something on a port that answers every request with these bytes, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
