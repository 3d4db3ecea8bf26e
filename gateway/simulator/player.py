"""
The player: says a stream's messages on a real WebSocket, each when it is due, and leaves as the carrier would.

It knows nothing of carriers. What it measures is its own punctuality: a player that is late proves nothing about a gateway.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import aiohttp
from aiohttp import (
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    TCPConnector,
    WSMsgType,
    WSServerHandshakeError,
)

from gateway.simulator.audio import Span
from gateway.simulator.handshake import Address
from gateway.simulator.streams import Leave, Say, Stream

HANDSHAKE_SECONDS: Final = 15.0
_CLOSE_SECONDS: Final = 5.0
_LINGER_NONE: Final = struct.pack("ii", 1, 0)

Ended = Literal["played", "refused", "unreachable", "lost"]
"""A stream's end: as its carrier wanted; before the upgrade, by a status; before any answer; by the gateway, in mid-stream."""


@dataclass
class Played:
    """How a call's streams went."""

    ended: Ended = "played"
    status: int | None = None
    """Of a refused handshake."""
    close_code: int | None = None
    """What the gateway closed with, where it did."""
    frames: int = 0
    late_seconds: float = 0.0
    """The most that a message left behind its time."""
    received: int = 0
    """Messages that came back: a one-way stream gets none."""
    spans: list[Span] = field(default_factory=list)
    """The audio that was sent."""
    times: list[float] = field(default_factory=list)
    """When each of them was, by `time.monotonic`."""


class Watch:
    """What is going on, for whoever shows it: counts that only grow."""

    def __init__(self) -> None:
        self.frames = 0
        self.late_seconds = 0.0


async def play(address: Address, streams: Sequence[Stream], watch: Watch | None = None) -> Played:
    """Play a call's streams, one after the other."""
    played = Played()
    watch = watch or Watch()
    for stream in streams:
        if stream.after:
            await asyncio.sleep(stream.after)
        await _play(address, stream, played, watch)
        if played.ended != "played":
            break
    return played


async def _play(address: Address, stream: Stream, played: Played, watch: Watch) -> None:
    timeout = ClientTimeout(total=None, sock_connect=HANDSHAKE_SECONDS)
    # A session of its own: leaving it drops the connection, whatever state the socket is in.
    async with ClientSession(connector=TCPConnector(limit=1), timeout=timeout) as http:
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                ws = await http.ws_connect(
                    address.url,
                    headers=address.headers,
                    compress=0,
                    max_msg_size=1 << 20,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
                )
        except WSServerHandshakeError as refused:
            played.ended, played.status = "refused", refused.status
            return
        except (aiohttp.ClientError, TimeoutError, OSError):
            played.ended = "unreachable"
            return
        async with asyncio.TaskGroup() as both:
            listening = both.create_task(_listen(ws, played), name="listen")
            leave = await _speak(ws, stream, played, watch)
            if leave is not None and leave.how == "close":
                await ws.close()
            elif leave is not None:
                if leave.how == "silence":
                    await asyncio.wait({listening}, timeout=leave.hold)
                _abort(ws)
            listening.cancel()  # after a close it has ended already


async def _listen(ws: ClientWebSocketResponse, played: Played) -> None:
    """Keep what comes; pings are answered on the way."""
    async for _ in ws:
        played.received += 1


async def _speak(ws: ClientWebSocketResponse, stream: Stream, played: Played, watch: Watch) -> Leave | None:
    """Say all there is to say; how to leave, or None where the gateway has left."""
    clock = asyncio.get_running_loop().time
    began = clock()
    for step in stream.steps:
        wait = began + step.due - clock()
        if wait > 0:
            await asyncio.sleep(wait)
        elif -wait > played.late_seconds:
            played.late_seconds = -wait
            watch.late_seconds = max(watch.late_seconds, -wait)
        if ws.closed:
            break
        if isinstance(step, Leave):
            return step
        try:
            await ws.send_frame(step.text, WSMsgType.TEXT)
        except (ConnectionError, aiohttp.ClientError):
            break
        _note(step, played, watch)
    played.ended, played.close_code = "lost", ws.close_code
    return None


def _note(step: Say, played: Played, watch: Watch) -> None:
    if step.audio is not None:
        played.frames += 1
        watch.frames += 1
        played.spans.append(step.audio)
        played.times.append(time.monotonic())


def _abort(ws: ClientWebSocketResponse) -> None:
    """Make the connection's end a TCP reset: a process that was killed, a cable that was pulled and plugged in again."""
    found = ws.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
