"""
Temporary tokens: one a session, each with a capped duration, so that the service itself ends what we should ever leak.

Minted ahead of need by one keeper (`run`), never on the audio's path: a session that finds none ready waits while its audio
waits in the buffer. `expires_in_seconds` bounds the time to open a session, not its length.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import aiohttp
import msgspec

from gateway.speech.losses import Loss

OPEN_WITHIN_SECONDS: Final = 600
_FRESH_SECONDS: Final = 60.0
_READY: Final = 4
_MOST_READY: Final = 64
_MINT_SECONDS: Final = 5.0
_AFTER_A_FAILURE_SECONDS: Final = 5.0
_LONGEST_ANSWER: Final = 64 * 1024


class _Answer(msgspec.Struct, frozen=True):
    token: str


class NoToken(Exception):
    """None could be had; `loss` says why as a session's loss would."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(str(loss))
        self.loss = loss


class Tokens:
    """Tokens minted with *api_key* at *base*, each good for one session of at most *cap_seconds*; *clock* in seconds."""

    def __init__(
        self,
        client: aiohttp.ClientSession,
        base: str,
        api_key: str,
        cap_seconds: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._url = f"http{base.removeprefix('ws')}/v3/token"
        self._api_key = api_key
        self._cap_seconds = cap_seconds
        self._clock = clock
        self._ready: deque[tuple[float, str]] = deque()
        self._taken: deque[float] = deque()
        self._wanted = asyncio.Event()

    async def take(self) -> str:
        """
        One token, used once.

        Raises:
            NoToken: None is ready and none can be minted.
        """
        now = self._clock()
        self._taken.append(now)
        self._wanted.set()
        while self._ready:
            until, token = self._ready.popleft()
            if until - now > _FRESH_SECONDS:
                return token
        return (await self._mint())[1]

    def forget(self) -> None:
        """Those that are ready are no good: one of them was refused for its age."""
        self._ready.clear()
        self._wanted.set()

    async def run(self) -> None:
        """Keep as many ready as the last minute took, and a few more."""
        while True:
            now = self._clock()
            while self._taken and self._taken[0] < now - 60:
                self._taken.popleft()
            while self._ready and self._ready[0][0] - now <= _FRESH_SECONDS:
                self._ready.popleft()
            try:
                while len(self._ready) < min(_MOST_READY, _READY + len(self._taken)):
                    self._ready.append(await self._mint())
            except NoToken:
                await asyncio.sleep(_AFTER_A_FAILURE_SECONDS)
                continue
            self._wanted.clear()
            try:
                async with asyncio.timeout(_FRESH_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def _mint(self) -> tuple[float, str]:
        asked = {"expires_in_seconds": OPEN_WITHIN_SECONDS, "max_session_duration_seconds": self._cap_seconds}
        now = self._clock()
        try:
            async with (
                asyncio.timeout(_MINT_SECONDS),
                self._client.get(
                    self._url, params=asked, headers={"Authorization": self._api_key}, allow_redirects=False
                ) as answer,
            ):
                if answer.status != 200:
                    raise NoToken(Loss("http", answer.status))  # not its text, which may hold the key it was asked with
                body = bytearray()
                while (more := await answer.content.readany()) and len(body) <= _LONGEST_ANSWER:
                    body += more
                token = msgspec.json.decode(body, type=_Answer).token
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise NoToken(Loss("overdue", None, f"no token: {type(error).__name__}")) from error
        if not token.isascii() or not token.isprintable() or not token:
            raise NoToken(Loss("overdue", None, "no token in the answer"))
        return now + OPEN_WITHIN_SECONDS, token
