"""
The speech service for benchmarks: speaks v3 well enough to be talked to, hears nothing, and notes when which audio came.

The emulator listens to what it is sent, which would take from a small machine what is to be measured. The sink says `Begin`,
`Heartbeat` each 5 s and `Termination`, and, so that the gateway has its work, a turn of twelve words each 8 s with a partial before it.
`GET /arrivals` tells of each session when how many bytes had come, and which coded word it began with: whose leg it was.

    python -m gateway.simulator.sink [--silent]
"""

import argparse
import asyncio
import signal
import time
import uuid
from typing import Any, Final

import msgspec
import uvloop
from aiohttp import WSMsgType, web

from gateway.audio import g711
from gateway.emulator import messages
from gateway.emulator.messages import Word
from gateway.emulator.tones import Ear

_KEPT_SECONDS: Final = 3
_TICK_SECONDS: Final = 1.0
_HEARTBEAT_TICKS: Final = 5
_TURN_TICKS: Final = 8
_PARTIAL_AT: Final = 4
_TURN_WORDS: Final = 12
_WORD_MS: Final = 350


class Arrivals(msgspec.Struct):
    """One session's audio."""

    samples_per_byte: float
    """At 8 kHz, as the carrier counts."""
    first_word: int | None = None
    """The coded word it began with."""
    times: list[float] = msgspec.field(default_factory=list)
    """By `time.monotonic`, which all processes of a machine share."""
    counts: list[int] = msgspec.field(default_factory=list)
    """Bytes in all, by then."""


class _Session:
    def __init__(self, encoding: str, rate: int, number: int) -> None:
        self.mulaw = encoding == "pcm_mulaw"
        self.rate = rate
        self.arrivals = Arrivals(8000 / rate / (1 if self.mulaw else 2))
        self.head = bytearray()
        self.bytes = 0
        self.order = 0
        self.ticks = number % _TURN_TICKS  # not all at once
        self.began = time.monotonic()

    def take(self, chunk: bytes) -> None:
        """Note a chunk."""
        self.bytes += len(chunk)
        self.arrivals.times.append(time.monotonic())
        self.arrivals.counts.append(self.bytes)
        if len(self.head) < _KEPT_SECONDS * self.rate * (1 if self.mulaw else 2):
            self.head += chunk

    @property
    def ms(self) -> int:
        """Audio so far."""
        return int(self.bytes * self.arrivals.samples_per_byte / 8)

    def tick(self, *, silent: bool) -> list[dict[str, Any]]:
        """What is due, once a second."""
        self.ticks += 1
        said = []
        if self.ticks % _HEARTBEAT_TICKS == 0:
            said.append(messages.heartbeat(self.ms, self.ms, 1.0, 0.9))
        phase = self.ticks % _TURN_TICKS
        if silent or phase not in {0, _PARTIAL_AT}:
            return said
        final = phase == 0
        count = _TURN_WORDS if final else _TURN_WORDS // 2
        begin = max(0, self.ms - _TURN_WORDS * _WORD_MS)
        words = [
            Word(f"word{place}", begin + place * _WORD_MS, begin + (place + 1) * _WORD_MS) for place in range(count)
        ]
        speaker = "A" if final else None
        said.append(messages.turn(self.order, words, final=final, speaker=speaker, word_speaker=speaker))
        self.order += final
        return said

    def told(self) -> Arrivals:
        """Everything, with whose leg it was."""
        pcm = g711.decode(bytes(self.head), "PCMU") if self.mulaw else bytes(self.head)
        ear = Ear(self.rate)
        heard = [*ear.feed(pcm), *ear.flush()]
        self.arrivals.first_word = heard[0].word if heard else None
        return self.arrivals


class Sink:
    """All sessions since the start."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._sessions: list[_Session] = []

    async def session(self, request: web.Request) -> web.WebSocketResponse:
        """One session."""
        query = request.query
        line = _Session(query.get("encoding", "pcm_s16le"), int(query.get("sample_rate", "16000")), len(self._sessions))
        self._sessions.append(line)
        ws = web.WebSocketResponse(compress=False, max_msg_size=1 << 20)
        await ws.prepare(request)
        await ws.send_json(messages.begin(str(uuid.uuid4()), int(time.time()) + 10800, {}))
        async with asyncio.TaskGroup() as both:
            ticking = both.create_task(self._tick(ws, line))
            async for said in ws:
                if said.type is WSMsgType.BINARY:
                    line.take(said.data)
                elif said.type is WSMsgType.TEXT and '"Terminate"' in said.data:
                    ticking.cancel()
                    await ws.send_json(messages.termination(line.ms / 1000, time.monotonic() - line.began))
                    await ws.close()
            ticking.cancel()
        return ws

    async def _tick(self, ws: web.WebSocketResponse, line: _Session) -> None:
        while not ws.closed:
            await asyncio.sleep(_TICK_SECONDS)
            for message in line.tick(silent=self._silent):
                await ws.send_json(message)

    async def arrivals(self, _: web.Request) -> web.Response:
        """Tell, and forget."""
        told = [line.told() for line in self._sessions]
        self._sessions.clear()
        return web.Response(body=msgspec.msgpack.encode(told))


async def serve(*, silent: bool) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sink = Sink(silent=silent)
    app = web.Application()
    app.router.add_get("/v3/ws", sink.session)
    app.router.add_get("/arrivals", sink.arrivals)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("listening sink=ws://{}:{}".format(*runner.addresses[0][:2]), flush=True)  # noqa: T201
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silent", action="store_true", help="no turns")
    uvloop.run(serve(silent=parser.parse_args().silent))


if __name__ == "__main__":
    main()
