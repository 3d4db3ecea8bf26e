"""A bare client of the v3 protocol, for what the SDK's client cannot do or would not notice."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from gateway.emulator.server import Emulator
from gateway.emulator.tones import pcm, read, script

PIECE_MS = 100
KEY = {"Authorization": "key"}


class Client:
    """One session seen from the client's side. `close_code` is 1006 where no close frame came."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.messages: list[Any] = []
        self.close_code: int | None = None
        self.close_reason: str | None = None

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def speak(self, seconds: float, *, first: int = 0, rate: int = 16000) -> None:
        """Coded speech, as fast as it goes."""
        await self.play(pcm(script(seconds, first=first), seconds, rate), rate * PIECE_MS // 1000 * 2)

    async def play(self, audio: bytes, size: int = 3200) -> None:
        for at in range(0, len(audio), size):
            await self.socket.send_bytes(audio[at : at + size])

    async def until(self, kind: str) -> Any:
        """The next message of a kind; those before it are kept in `messages`."""
        while (message := await self.next()) is not None:
            if isinstance(message, dict) and message.get("type") == kind:
                return message
        raise AssertionError(f"no {kind}: closed with {self.close_code} after {self.messages}")

    async def next(self) -> Any:
        """The next message, decoded where it is JSON; None at the end."""
        async with asyncio.timeout(10):
            message = await self.socket.receive()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            try:
                found = json.loads(message.data)
            except ValueError:
                found = message.data
            self.messages.append(found)
            return found
        self.close_code = self.socket.close_code
        if message.type is WSMsgType.CLOSE:
            self.close_code, self.close_reason = message.data, message.extra
        return None

    async def rest(self) -> list[Any]:
        """All messages to the end of the connection."""
        while await self.next() is not None:
            pass
        return self.messages

    async def terminate(self) -> list[Any]:
        await self.say(type="Terminate")
        return await self.rest()

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.messages if isinstance(message, dict) and "type" in message]

    @property
    def words(self) -> list[int]:
        """The coded words of all finals."""
        finals = [m for m in self.messages if isinstance(m, dict) and m.get("end_of_turn") is True]
        return [word for final in finals for word in read(final["transcript"])]


@asynccontextmanager
async def dial(
    emulator: Emulator, query: str = "", headers: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A connection, upgraded; whatever is left of it is dropped at the end."""
    options = {"autoclose": False, "max_msg_size": 0, **options}
    async with (
        ClientSession() as http,
        http.ws_connect(f"{emulator.url}/v3/ws?{query}", headers=KEY if headers is None else headers, **options) as ws,
    ):
        yield Client(ws)
