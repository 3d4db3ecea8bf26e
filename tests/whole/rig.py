"""A whole gateway in this process, between an emulator and a receiver that speak the wire; and calls that count their words."""

import asyncio
import base64
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway import app
from gateway.config import load
from gateway.emulator import tones
from gateway.emulator.faults import Faults
from gateway.emulator.server import Emulator
from gateway.media.proof import twilio_signature
from tests.fakes.endpoint import Endpoint

AUTH_TOKEN = "twilio-auth-token"
TELNYX_TOKEN = "telnyx-stream-token"
PUBLIC = "https://gateway.test"
FRAME_MS = 20
FRAME = FRAME_MS * 8
SILENCE = b"\xff" * FRAME


class Asked:
    """Somebody asks the gateway to stop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.again = False

    def now(self) -> None:
        self._event.set()

    async def first(self) -> None:
        await self._event.wait()


@dataclass
class Rig:
    """Everything a whole-call test looks at."""

    emulator: Emulator
    endpoint: Endpoint
    carriers: str
    admin: str
    stop: Asked
    http: aiohttp.ClientSession
    said: list[str] = field(default_factory=list)

    def events(self, call_id: str) -> list[dict[str, Any]]:
        """The bodies of a call's events, each once, in order of arrival."""
        seen: dict[str, dict[str, Any]] = {}
        for one in self.endpoint.received:
            if one.call_id == call_id:
                seen.setdefault(one.id, json.loads(one.body))
        return list(seen.values())

    async def ended(self, *call_ids: str, times: int = 1, seconds: float = 60) -> None:
        """Wait until each call has said its last event so often."""

        def all_ended() -> bool:
            return all(
                sum(event["type"] == "call.ended" for event in self.events(call_id)) >= times for call_id in call_ids
            )

        await self.endpoint.until(all_ended, seconds)

    async def get(self, path: str) -> tuple[int, str]:
        async with self.http.get(self.admin + path) as answer:
            return answer.status, await answer.text()

    async def metric(self, name: str, **labels: str) -> float:
        """One sample of `/metrics`; labels in any order."""
        _, text = await self.get("/metrics")
        for line in text.splitlines():
            head, _, value = line.rpartition(" ")
            said, _, rest = head.partition("{")
            if said == name and all(f'{key}="{one}"' in rest for key, one in labels.items()):
                return float(value)
        raise AssertionError(f"no sample {name} {labels}")

    def nothing_leaked(self) -> None:
        """Every session that began was terminated by us, or ended by the service."""
        totals = self.emulator.ledger.totals
        assert totals.open == 0, totals
        assert totals.abandoned == 0, totals


def environment(folder: Path, emulator: Emulator, endpoint: Endpoint, **settings: object) -> dict[str, str]:
    """What a gateway between these two is told."""
    return {
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": "0",
        "GATEWAY_ADMIN_PORT": "0",
        "GATEWAY_PUBLIC_URL": PUBLIC,
        "ASSEMBLYAI_API_KEY": "a-key",
        "GATEWAY_ASSEMBLYAI_URL": emulator.url,
        "GATEWAY_TWILIO_AUTH_TOKENS": AUTH_TOKEN,
        "GATEWAY_TELNYX_STREAM_TOKENS": TELNYX_TOKEN,
        "GATEWAY_SIGNALWIRE_STREAM_TOKENS": TELNYX_TOKEN,
        "GATEWAY_WEBHOOK_URL": endpoint.url,
        "GATEWAY_WEBHOOK_SECRETS": ",".join(endpoint.secrets),
        "GATEWAY_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
        "GATEWAY_SESSIONS_PER_MINUTE": "6000",
        "GATEWAY_STORE": f"sqlite:///{folder}/gateway.db",
        **{f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()},
    }


class Process:
    """A gateway in a process of its own, which a test may kill."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.environ = environ
        self.carriers = self.admin = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "serve",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"]} | self.environ,
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            for _ in range(2):
                line = (await self._process.stdout.readline()).decode()
                name, _, url = line.strip().partition("=")
                assert url, f"exit {await self._process.wait()}"
                setattr(self, name.removeprefix("listening "), url)
        self.carriers = self.carriers.replace("http", "ws", 1)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def exited(self, seconds: float = 30) -> int:
        """Wait for its end; gives its exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def end(self) -> None:
        """Whatever became of it, it is gone afterwards."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def process_rig(
    folder: Path, faults: Faults | None = None, **settings: object
) -> AsyncIterator[tuple[Rig, Process]]:
    """As `rig`, with the gateway as a process."""
    async with Emulator(faults=faults or Faults()) as emulator, Endpoint() as endpoint, aiohttp.ClientSession() as http:
        process = Process(environment(folder, emulator, endpoint, **settings))
        try:
            await process.start()
            yield Rig(emulator, endpoint, process.carriers, process.admin, Asked(), http), process
        finally:
            await process.end()


@asynccontextmanager
async def rig(folder: Path, faults: Faults | None = None, **settings: object) -> AsyncIterator[Rig]:
    """A gateway, ready; leaving it drains it."""
    async with (
        Emulator(faults=faults or Faults()) as emulator,
        Endpoint() as endpoint,
        aiohttp.ClientSession() as http,
        asyncio.TaskGroup() as group,
    ):
        environ = environment(folder, emulator, endpoint, **settings)
        lines: asyncio.Queue[str] = asyncio.Queue()
        stop = Asked()
        running = group.create_task(app.serve(load(environ), lines.put_nowait, stop))
        carriers = (await asyncio.wait_for(lines.get(), 10)).partition("=")[2]
        admin = (await asyncio.wait_for(lines.get(), 10)).partition("=")[2]
        yield Rig(emulator, endpoint, carriers.replace("http", "ws", 1), admin, stop, http)
        stop.again = True
        stop.now()
        await running


def coded(
    seconds: float, first: int = 0, start_ms: int = 400, turn_gap_ms: int = 1000, words_a_turn: int = 4, repeat: int = 0
) -> list[tones.Spoken]:
    """A script of coded words."""
    return tones.script(
        seconds, first=first, start_ms=start_ms, turn_gap_ms=turn_gap_ms, words_a_turn=words_a_turn, repeat=repeat
    )


@dataclass
class Caller:
    """A Twilio stream at real pace. Tracks are mu-law bytes; what a carrier does wrong is a method or a field."""

    rig: Rig
    call_id: str
    tracks: dict[str, bytes]
    lose: frozenset[int] = frozenset()
    """Chunk numbers that never come."""
    stream_id: str = "MZ1"
    names: tuple[str, ...] | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    ws: aiohttp.ClientWebSocketResponse[Any] | None = None
    frames: int = 0

    async def connect(self, path: str = "/media/twilio") -> None:
        signature = twilio_signature(AUTH_TOKEN, f"wss{PUBLIC.removeprefix('https')}{path}")
        self.ws = await self.rig.http.ws_connect(
            self.rig.carriers + path, headers={"X-Twilio-Signature": signature}, max_msg_size=0
        )
        await self.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {
            "accountSid": "AC1",
            "streamSid": self.stream_id,
            "callSid": self.call_id,
            "tracks": list(self.names if self.names is not None else self.tracks),
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self.parameters,
        }
        await self.send({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": self.stream_id})

    async def send(self, message: dict[str, Any]) -> None:
        assert self.ws is not None
        await self.ws.send_str(json.dumps(message))

    async def play(self, until_ms: float | None = None) -> None:
        """Send frames at real pace from where it stopped, until a time of the audio or its end."""
        loop = asyncio.get_running_loop()
        total = max(len(audio) for audio in self.tracks.values()) // FRAME
        last = total if until_ms is None else min(total, round(until_ms / FRAME_MS))
        began = loop.time() - self.frames * FRAME_MS / 1000
        while self.frames < last:
            number = self.frames
            self.frames += 1
            await asyncio.sleep(max(0.0, began + self.frames * FRAME_MS / 1000 - loop.time()))
            if number + 1 in self.lose:
                continue
            for track, audio in self.tracks.items():
                await self.media(track, number, audio[number * FRAME : (number + 1) * FRAME].ljust(FRAME, b"\xff"))

    async def media(self, track: str, number: int, payload: bytes) -> None:
        media = {
            "track": track,
            "chunk": str(number + 1),
            "timestamp": str(number * FRAME_MS + 7),
            "payload": base64.b64encode(payload).decode(),
        }
        await self.send({"event": "media", "sequenceNumber": "2", "media": media, "streamSid": self.stream_id})

    async def stop(self) -> None:
        """Hang up as the carrier does: `stop`, then the socket's close."""
        await self.send({"event": "stop", "stop": {"callSid": self.call_id}, "streamSid": self.stream_id})
        assert self.ws is not None
        await self.ws.close()

    def vanish(self) -> None:
        """The socket is gone without a word (RST)."""
        assert self.ws is not None
        connection = self.ws._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()

    async def whole(self) -> None:
        """From handshake to hang-up."""
        await self.connect()
        await self.play()
        await self.stop()


@dataclass
class TelnyxCaller(Caller):
    """A Telnyx stream: snake_case, frames of odd sizes, out of order; PCMU or PCMA; both tracks, none named."""

    encoding: str = "PCMU"
    sizes: tuple[int, ...] = (160,)
    overtake: int = 0
    """A frame may come so many frames early or late."""
    first_chunk: int = 1

    async def connect(self, path: str = "/media/telnyx") -> None:
        self.ws = await self.rig.http.ws_connect(
            self.rig.carriers + path, headers={"x-telnyx-streaming-auth-token": TELNYX_TOKEN}, max_msg_size=0
        )
        await self.send({"event": "connected", "version": "1.0.0"})
        start = {
            "user_id": "user-1",
            "call_control_id": self.call_id,
            "from": "+13122010094",
            "to": "+13122123456",
            "media_format": {"encoding": self.encoding, "sample_rate": 8000, "channels": 1},
            "custom_parameters": self.parameters,
        }
        await self.send({"event": "start", "sequence_number": "1", "start": start, "stream_id": self.stream_id})

    async def play(self, until_ms: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        chance = random.Random(7)
        frames: list[tuple[float, str, int, bytes]] = []
        for track, audio in self.tracks.items():
            at, number = 0, self.first_chunk
            while at < len(audio):
                payload = audio[at : at + self.sizes[number % len(self.sizes)]]
                frames.append((at / 8, track, number, payload))
                at, number = at + len(payload), number + 1
        frames.sort(key=lambda frame: frame[0])
        frames = [frame for frame in frames if until_ms is None or frame[0] < until_ms]
        order = sorted(range(len(frames)), key=lambda place: place + chance.uniform(0, self.overtake))
        began = loop.time()
        for place in order:
            ms, track, number, payload = frames[place]
            await asyncio.sleep(max(0.0, began + (ms + len(payload) / 8) / 1000 - loop.time()))
            media = {
                "track": track,
                "chunk": str(number),
                "timestamp": str(int(ms)),
                "payload": base64.b64encode(payload).decode(),
            }
            await self.send(
                {"event": "media", "sequence_number": str(place), "media": media, "stream_id": self.stream_id}
            )

    async def stop(self) -> None:
        await self.send({"event": "stop", "stop": {"call_control_id": self.call_id}, "stream_id": self.stream_id})
        assert self.ws is not None
        await self.ws.close()


def speak(script: Sequence[tones.Spoken], seconds: float) -> bytes:
    """A script as a carrier's mu-law."""
    return tones.mulaw(script, seconds)


def words(events: Iterable[dict[str, Any]], track: str) -> list[tuple[str, int]]:
    """Text and start of every final word of a leg, in the order of its turns."""
    return [
        (word["text"], word["start_ms"])
        for event in events
        if event["type"] == "turn.final" and event["data"]["leg"]["track"] == track
        for word in event["data"]["turn"]["words"]
    ]


def types(events: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(event["type"] for event in events)


def check(events: Sequence[dict[str, Any]], scripts: dict[str, Sequence[tones.Spoken]], within_ms: int = 100) -> None:
    """Every word said once, in order, at its time, on its leg; the sequence without a hole, the end last."""
    assert [event["data"]["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "call.started"
    assert events[-1]["type"] == "call.ended"
    assert types(events)["call.ended"] == 1
    for track, script in scripts.items():
        heard = words(events, track)
        assert [text for text, _ in heard] == [tones.spelled(spoken.word) for spoken in script], track
        late = [(text, at - spoken.start_ms) for (text, at), spoken in zip(heard, script, strict=True)]
        assert all(abs(off) <= within_ms for _, off in late), late
        indexes = [
            event["data"]["turn"]["index"]
            for event in events
            if event["type"] == "turn.final" and event["data"]["leg"]["track"] == track
        ]
        assert indexes == list(range(len(indexes)))
    transcript = events[-1]["data"]["transcript"]
    assert transcript is not None
    assert [turn["start_ms"] for turn in transcript] == sorted(turn["start_ms"] for turn in transcript)
    for track, script in scripts.items():
        said = [word["text"] for turn in transcript if turn["leg"]["track"] == track for word in turn["words"]]
        assert said == [tones.spelled(spoken.word) for spoken in script], track
