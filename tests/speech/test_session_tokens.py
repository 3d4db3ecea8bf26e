"""Temporary tokens: minted ahead, one a session, new when they age, and a loss like any other where none is to be had."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiohttp
import pytest
from aiohttp import web

from gateway.emulator.faults import Faults
from gateway.emulator.server import Emulator
from gateway.speech.losses import Loss, judge
from gateway.speech.protocol import State
from gateway.speech.service import Service
from gateway.speech.tokens import OPEN_WITHIN_SECONDS, NoToken, Tokens
from tests.speech.line import KEY, Heard, closed, dial, house, opened, order
from tests.speech.loops import WIRE

LOOPS: Final = WIRE
AT_ONCE: Final = Faults(begin_delay_seconds=0, speed=None)
CAP: Final = 120

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what tells nobody."""
    async with asyncio.timeout(8):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Minting:
    """Tokens from an endpoint of the test's own, and a clock that the test moves."""

    def __init__(self, tokens: Tokens, asked: list[web.Request]) -> None:
        self.tokens = tokens
        self.asked = asked

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While a keeper keeps some ready."""
        keeper = asyncio.get_running_loop().create_task(self.tokens.run())
        try:
            yield
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    async def ready(self, number: int) -> None:
        """Wait until so many are."""
        await until(lambda: len(self.tokens._ready) == number)


@asynccontextmanager
async def minting(answer: Answer | None = None, clock: Callable[[], float] = time.monotonic) -> AsyncIterator[Minting]:
    """An endpoint that mints `token-1`, `token-2`, …, or answers as told."""
    asked: list[web.Request] = []
    numbers = itertools.count(1)

    async def mint(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        if answer is not None:
            return await answer(request)
        return web.json_response({"token": f"token-{next(numbers)}", "expires_in_seconds": 600})

    app = web.Application()
    app.router.add_get("/v3/token", mint)
    app.router.add_get("/elsewhere", mint)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as client:
            base = f"ws://127.0.0.1:{runner.addresses[0][1]}"
            yield Minting(Tokens(client, base, KEY, CAP, clock), asked)
    finally:
        await runner.cleanup()


async def test_minted_ahead() -> None:
    """A few are ready before anybody asks; what is taken is made up for, and after a busy minute more are kept."""
    async with minting() as mint, mint.kept():
        await mint.ready(4)
        assert [await mint.tokens.take() for _ in range(4)] == [f"token-{number}" for number in range(1, 5)]
        await mint.ready(8)
        assert len({await mint.tokens.take() for _ in range(8)}) == 8
        await mint.ready(16)
    assert {request.headers["Authorization"] for request in mint.asked} == {KEY}
    assert {request.query_string for request in mint.asked} == {
        f"expires_in_seconds={OPEN_WITHIN_SECONDS}&max_session_duration_seconds={CAP}"
    }


async def test_minted_on_demand() -> None:
    """Where none is ready the session waits for its own."""
    async with minting() as mint:
        taken = await asyncio.gather(*(mint.tokens.take() for _ in range(3)))
        assert sorted(taken) == ["token-1", "token-2", "token-3"]


async def test_an_old_one_is_not_used() -> None:
    """What might be too old at the service's door is thrown away, by who takes and by who keeps."""
    now = 1000.0
    async with minting(clock=lambda: now) as mint:
        async with mint.kept():
            await mint.ready(4)
        now += OPEN_WITHIN_SECONDS - 60
        assert await mint.tokens.take() == "token-5"
        async with mint.kept():
            await mint.ready(5)
            now += OPEN_WITHIN_SECONDS - 60
            mint.tokens._wanted.set()
            await mint.ready(4)
            assert await mint.tokens.take() > "token-10"


async def test_all_of_them_forgotten() -> None:
    """One was refused for its age: the others are as old, and are replaced at once."""
    async with minting() as mint, mint.kept():
        await mint.ready(4)
        mint.tokens.forget()
        await mint.ready(4)
        assert await mint.tokens.take() == "token-5"


@pytest.mark.parametrize(
    ("answer", "loss"),
    [
        (web.Response(status=401, text=f"bad key {KEY}"), Loss("http", 401)),
        (web.Response(status=422, text=f'{{"detail":[{{"input":"{KEY}"}}]}}'), Loss("http", 422)),
        (web.Response(status=429), Loss("http", 429)),
        (web.Response(status=503), Loss("http", 503)),
        (web.Response(status=302, headers={"Location": "/elsewhere"}), Loss("http", 302)),
        (web.Response(text="<html>"), Loss("overdue", None, "no token: DecodeError")),
        (web.Response(body=b"\xff"), Loss("overdue", None, "no token: DecodeError")),
        (web.Response(text='["token"]'), Loss("overdue", None, "no token: ValidationError")),
        (web.Response(text='{"token":7}'), Loss("overdue", None, "no token: ValidationError")),
        (web.Response(text='{"token":""}'), Loss("overdue", None, "no token in the answer")),
        (web.Response(text='{"token":"a\\r\\nb: c"}'), Loss("overdue", None, "no token in the answer")),
        (web.Response(text='{"token":"' + "x" * 200_000), Loss("overdue", None, "no token: DecodeError")),
    ],
)
async def test_no_token(answer: web.Response, loss: Loss) -> None:
    """Whatever the endpoint answers instead is a loss: no exception else, and nothing that holds the key."""

    async def say(_: web.Request) -> web.StreamResponse:
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async with minting(say) as mint:
        with pytest.raises(NoToken) as none:
            await mint.tokens.take()
        assert len(mint.asked) == 1
    assert none.value.loss == loss
    assert KEY not in str(none.value)


async def test_a_mint_that_hangs_up() -> None:
    """No connection at all, and one that breaks off."""

    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with minting(hang_up) as mint:
        with pytest.raises(NoToken, match="no token"):
            await mint.tokens.take()
        mint.tokens._url = "http://127.0.0.1:9/v3/token"
        with pytest.raises(NoToken, match="no token: ClientConnectorError"):
            await mint.tokens.take()


# In a service


async def full(service: Service) -> None:
    """Wait until its keeper has some ready."""
    tokens = service._tokens
    assert tokens is not None
    await until(lambda: len(tokens._ready) == 4)


async def test_each_session_on_its_own() -> None:
    """The service sees tokens and never the key; each caps its session, which knows how long it has."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url, token_cap_seconds=CAP) as service:
        sessions = [await opened(service, heard) for _ in range(6)]
        for session in sessions:
            assert session.lifetime_seconds == pytest.approx(CAP - 2, abs=2)
            session.terminate()
        await closed(service)
        assert {line.authorization for line in emulator.sessions} == {"token"}


async def test_one_that_is_too_old_is_replaced_once() -> None:
    """Refused for its age, the session is lost for that; the next one, on a new token, begins."""
    shift = 0.0
    async with (
        Emulator(faults=AT_ONCE, clock=lambda: time.time() + shift) as emulator,
        house(emulator.url, token_cap_seconds=CAP) as service,
    ):
        await full(service)
        shift = OPEN_WITHIN_SECONDS + 10
        old = await dial(service, Heard())
        assert not await old.opened()
        assert old.loss == Loss("error", 1008, "Unauthorized Connection: Signature has expired")
        assert judge(old.loss) == "token"
        assert service.admission.circuit is None
        session = await opened(service, Heard())
        session.terminate()
        await closed(service)
        assert session.state is State.TERMINATED


@pytest.mark.parametrize(("status", "circuit"), [(500, False), (429, False), (403, True), (401, True)])
async def test_a_mint_that_fails_is_a_loss(status: int, *, circuit: bool) -> None:
    """Nothing is dialled; the leg rests, or the account's circuit opens. When it mints again, sessions begin again."""
    faults = AT_ONCE.but(token_status=status)
    async with Emulator(faults=faults) as emulator, house(emulator.url, token_cap_seconds=CAP) as service:
        session = await dial(service, Heard())
        assert not await session.opened()
        assert session.loss == Loss("http", status)
        await closed(service)
        assert (service.admission.circuit is not None) == circuit
        assert emulator.sessions == []
        emulator.faults = AT_ONCE
        session = service.dial(order(Heard()))
        assert await session.opened()
        assert service.admission.circuit is None


@pytest.mark.slow
async def test_the_keeper_tries_again() -> None:
    """After a failure it rests five seconds, and goes on."""
    failing = True

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503) if failing else web.json_response({"token": "good"})

    async with minting(answer) as mint, mint.kept():
        await until(lambda: bool(mint.asked))
        failing = False
        await mint.ready(4)
