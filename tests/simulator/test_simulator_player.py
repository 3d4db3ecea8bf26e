"""The player against a carrier's port that only listens: pace, endings, refusals."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from aiohttp import WSMsgType, web

from gateway.simulator import audio, telnyx, twilio
from gateway.simulator.frames import CarrierFaults, HangUp
from gateway.simulator.handshake import Address
from gateway.simulator.player import Watch, play
from gateway.simulator.streams import Leave, Say, Step, Stream

SOUND = audio.coded(0.4)


class Port:
    """A carriers' port: keeps what each socket said and how it ended, and does as it is told."""

    def __init__(self) -> None:
        self.sockets: list[tuple[list[tuple[float, dict[str, Any]]], int | None]] = []
        self.refuse: int | None = None
        self.close_after: int | None = None
        self.say: str | None = None
        self.headers: dict[str, str] = {}
        self.ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/media", self._media)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = Address(f"ws://127.0.0.1:{self._runner.addresses[0][1]}/media", {"X-Proof": "shown"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _media(self, request: web.Request) -> web.StreamResponse:
        self.headers = dict(request.headers)
        if self.refuse is not None:
            return web.Response(status=self.refuse)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        if self.say is not None:
            await ws.send_str(self.say)
        messages: list[tuple[float, dict[str, Any]]] = []
        async for message in ws:
            assert message.type is WSMsgType.TEXT
            messages.append((time.monotonic(), json.loads(message.data)))
            if len(messages) == self.close_after:
                await ws.close(code=1008)
        self.sockets.append((messages, ws.close_code))
        self.ended.set()
        return ws


@asynccontextmanager
async def port() -> AsyncIterator[Port]:
    """A port, for as long as a test needs it; a player that hangs is a failure."""
    async with asyncio.timeout(10), Port() as opened:
        yield opened


def stream(faults: CarrierFaults | None = None) -> list[Stream]:
    """A short Twilio stream."""
    return twilio.streams(SOUND, "CA1", {}, faults or CarrierFaults())


async def test_a_stream_is_played_at_its_pace() -> None:
    """Every message, in order, in real time, with its proof; then a proper close."""
    watch = Watch()
    async with port() as opened:
        began = time.monotonic()
        played = await play(opened.address, stream(), watch)
        took = time.monotonic() - began
        await opened.ended.wait()
    messages, code = opened.sockets[0]
    assert opened.headers["X-Proof"] == "shown"
    assert [one["event"] for _, one in messages] == ["connected", "start", *["media"] * 40, "stop"]
    assert (played.ended, played.frames, watch.frames, played.received) == ("played", 40, 40, 0)
    assert [(span.track, span.start) for span in played.spans[:3]] == [
        ("inbound", 0),
        ("outbound", 0),
        ("inbound", 160),
    ]
    assert 0.4 <= took < 3
    assert messages[-2][0] - messages[2][0] >= 0.36
    assert len(played.times) == 40
    assert code == 1000


async def test_an_abort_is_no_close() -> None:
    """The far side sees the connection end without a close frame."""
    async with port() as opened:
        played = await play(opened.address, stream(CarrierFaults(hang_up=HangUp(0.1, "abort"))))
        await opened.ended.wait()
    messages, code = opened.sockets[0]
    assert code == 1006
    assert messages[-1][1]["event"] == "media"
    assert (played.ended, played.frames) == ("played", 10)


async def test_silence_holds_the_socket() -> None:
    """Nothing is said and nothing closed, for as long as it holds; then it is gone."""
    steps: list[Step] = [Say(0.0, b"{}"), Leave(0.0, "silence", hold=0.2)]
    async with port() as opened:
        began = time.monotonic()
        await play(opened.address, [Stream("MZ1", iter(steps))])
        assert time.monotonic() - began >= 0.2
        await opened.ended.wait()
    assert opened.sockets[0][1] == 1006


async def test_a_refusal_is_told() -> None:
    """Its status."""
    async with port() as opened:
        opened.refuse = 403
        played = await play(opened.address, stream())
    assert (played.ended, played.status, played.frames) == ("refused", 403, 0)


async def test_nobody_there_is_told() -> None:
    """As unreachable."""
    async with port() as opened:
        gone = opened.address
    assert (await play(gone, stream())).ended == "unreachable"


async def test_a_gateway_that_closes_is_told() -> None:
    """With its code; the player stops at once."""
    async with port() as opened:
        opened.close_after = 5
        played = await play(opened.address, stream())
    assert (played.ended, played.close_code) == ("lost", 1008)
    assert played.frames < 40


async def test_what_comes_back_is_counted() -> None:
    """A one-way stream gets nothing, so anything is worth knowing."""
    async with port() as opened:
        opened.say = "{}"
        assert (await play(opened.address, stream())).received == 1


async def test_a_reconnect_is_another_socket() -> None:
    """Two sockets, the first reset; the spans are of both."""
    streams = telnyx.streams(SOUND, "v3:1", {}, CarrierFaults(reconnect=(0.2, 0.05)), sizes=(160,))
    async with port() as opened:
        played = await play(opened.address, streams)
        while len(opened.sockets) < 2:
            opened.ended.clear()
            await opened.ended.wait()
    assert [code for _, code in opened.sockets] == [1006, 1000]
    assert sum(span.end - span.start for span in played.spans) == 2 * (SOUND.samples - 400)


@pytest.mark.parametrize("late", [0.05])
async def test_lateness_is_measured(late: float) -> None:
    """A message that was due before it could be sent."""

    def steps() -> Any:
        yield Say(0.0, b"{}")
        time.sleep(late)  # the machine is busy
        yield Say(0.0, b"{}")
        yield Leave(0.0, "close")

    watch = Watch()
    async with port() as opened:
        played = await play(opened.address, [Stream("MZ1", steps())], watch)
    assert late <= played.late_seconds < 1
    assert watch.late_seconds == played.late_seconds
