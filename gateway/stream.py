"""
One carrier WebSocket: its messages become frames in place, and fill its call's legs.

The reader never waits for anything slow: what it does with a message is done at once. Pure parts: the carrier's machine
(`gateway.media`) and one timeline a track; this file is the shell that knows sockets and clocks.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from aiohttp import WSMsgType, web

from gateway.audio import g711
from gateway.call import Carrier, Track
from gateway.errors import ProtocolFault
from gateway.livecall import LiveCall
from gateway.media.messages import Ignored, Malformed, MalformedReason, Media, Message, Started, Stopped
from gateway.metrics import LocalCount, Metrics
from gateway.tasks import Nursery
from gateway.timeline import Audio, Gap, StreamClock, Timeline

_log = structlog.get_logger()

START_SECONDS: Final = 5.0
"""A socket that has not said `start` by then is closed."""
AFTER_STOP_SECONDS: Final = 5.0
"""The carrier closes its socket after `stop`; a socket that it forgets is closed then."""
HANG_UP_SECONDS: Final = 3.0
MESSAGE_LIMIT: Final = 64 * 1024

_FLOOD_SECONDS: Final = 60.0
_FLOOD_TIMES: Final = 4.0
_A_MESSAGE: Final = 1 / (_FLOOD_TIMES * 100)
"""Seconds, where two tracks at 20 ms say 100 a second …"""
_A_BYTE: Final = 1 / (_FLOOD_TIMES * 35_000)
"""… and 35 kB."""


class Machine(Protocol):
    """A carrier's messages read: `gateway.media`."""

    def receive(self, data: bytes | str) -> Message: ...
    def malformed(self, reason: MalformedReason) -> Malformed: ...


class Flood:
    """
    Over 60 s at most four times what a call needs: a stalled link may deliver 10 s at once. Pure; seconds.

    Two leaky buckets, each as the time at which it will be empty again (ITU-T I.371's virtual scheduling).
    """

    def __init__(self, now: float) -> None:
        self._messages_until = now
        self._bytes_until = now

    def wait(self, size: int, now: float) -> float:
        """Take one message of so many bytes; seconds for which nothing more should be read."""
        messages, octets = self._messages_until, self._bytes_until
        self._messages_until = messages = max(now, messages) + _A_MESSAGE
        self._bytes_until = octets = max(now, octets) + size * _A_BYTE
        over = max(messages, octets) - now - _FLOOD_SECONDS
        return over if over > 0 else 0.0


class _TrackFeed:
    """One track of the stream, on its way to its leg."""

    def __init__(self, track: Track, timeline: Timeline, frames: LocalCount) -> None:
        self.track = track
        self.timeline = timeline
        self.frames = frames
        self.lost = 0
        self.timer: asyncio.TimerHandle | None = None


class Stream:
    """A media stream that `run` carries from its handshake to its socket's end."""

    def __init__(
        self,
        carrier: Carrier,
        machine: Machine,
        *,
        join: Callable[["Stream", Started], Awaitable[LiveCall]],
        metrics: Metrics,
        nursery: Nursery,
    ) -> None:
        self.carrier: Carrier = carrier
        self.stream_id = ""
        self.clock = StreamClock()
        loop = asyncio.get_running_loop()
        self.heard_at = loop.time()
        self._machine = machine
        self._join = join
        self._metrics = metrics
        self._nursery = nursery
        self._loop = loop
        self._call: LiveCall | None = None
        self._encoding: g711.Encoding = "PCMU"
        self._feeds: dict[Track, _TrackFeed] = {}
        self._ws: web.WebSocketResponse | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._closing: tuple[int, str] | None = None
        self._flood = Flood(loop.time())
        self._flooded = False

    async def run(self, ws: web.WebSocketResponse) -> None:
        """Read until the socket ends; whatever way that is, its call is told."""
        self._ws = ws
        self._deadline = self._loop.call_later(START_SECONDS, self._no_start)
        try:
            await self._read(ws)
        except ProtocolFault as fault:
            _log.warning("stream closed", carrier=self.carrier, stream_id=self.stream_id or None, reason=fault.reason)
            self._closing = (fault.code, fault.reason)
        finally:
            self._deadline.cancel()
            self._finish(stopped=False)
            await _hang_up(ws, *(self._closing or (1000, "")))

    def close(self) -> None:
        """Close its socket normally: another has taken its place, or the process stops."""
        self._close(1000, "")

    async def _read(self, ws: web.WebSocketResponse) -> None:
        while self._closing is None:
            frame = await ws.receive()
            if frame.type is WSMsgType.TEXT:
                message = self._machine.receive(frame.data)
            elif frame.type is WSMsgType.BINARY:
                message = self._machine.malformed("binary")
            else:  # closed, by whom- and howsoever; or what aiohttp could not read, and answered with a close
                return
            now = self._loop.time()
            if type(message) is Media:
                self._frame(message, now)
            else:
                await self._take(message)
            if (wait := self._flood.wait(len(frame.data), now)) > 0:
                # "stop reading rather than close": the sender's socket fills up, nothing of ours does.
                if not self._flooded:
                    self._flooded = True
                    _log.warning("stream floods", carrier=self.carrier, stream_id=self.stream_id or None)
                await asyncio.sleep(min(wait, 5.0))

    async def _take(self, message: Message) -> None:
        match message:
            case Started():
                await self._start(message)
            case Stopped():
                self._finish(stopped=True)
                if self._deadline is not None:
                    self._deadline.cancel()
                self._deadline = self._loop.call_later(AFTER_STOP_SECONDS, self._close, 1000, "")
            case Ignored(kind):
                self._metrics.ignored_total.labels(self.carrier, kind).inc()
            case Malformed(reason):
                self._metrics.malformed_total.labels(self.carrier).inc()
                _log.debug("message not understood", source=self.carrier, what=reason, stream_id=self.stream_id or None)
            case _:
                pass  # Connected: nothing hangs on it

    async def _start(self, started: Started) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.stream_id = started.stream_id
        self._encoding = started.encoding
        self.heard_at = self._loop.time()
        self._call = await self._join(self, started)
        self._call.attach(self, started.tracks, started.encoding)

    def _frame(self, media: Media, now: float) -> None:
        self.heard_at = now
        feed = self._feeds.get(media.track)
        if feed is None:
            feed = self._feeds[media.track] = _TrackFeed(
                media.track,
                Timeline(self.clock, g711.SILENCE[self._encoding]),
                self._metrics.frames_total.labels(self.carrier, media.track),
            )
        feed.frames.inc()
        self._pass(feed, feed.timeline.push(media.chunk, media.timestamp_ms, media.payload, now))

    def _pass(self, feed: _TrackFeed, out: list[Audio | Gap]) -> None:
        timeline = feed.timeline
        if timeline.lost != feed.lost:
            self._metrics.frames_lost_total.labels(self.carrier).inc(timeline.lost - feed.lost)
            feed.lost = timeline.lost
        leg = self._call.leg_for(self, feed.track) if out and self._call is not None else None
        if leg is not None:
            for part in out:
                if isinstance(part, Audio):
                    leg.push(part.at, part.payload, part.arrived, self._encoding)
                else:
                    leg.gap(part.start, part.end, "carrier_loss")
        if timeline.due is not None and feed.timer is None:
            feed.timer = self._loop.call_at(timeline.due + 0.001, self._expire, feed)

    def _expire(self, feed: _TrackFeed) -> None:
        feed.timer = None
        self._pass(feed, feed.timeline.expire(self._loop.time()))

    def _finish(self, *, stopped: bool) -> None:
        """The frames are over: what the timelines hold comes out, then the call is told."""
        for feed in self._feeds.values():
            if feed.timer is not None:
                feed.timer.cancel()
            self._pass(feed, feed.timeline.finish())
            if feed.timer is not None:
                feed.timer.cancel()
        self._feeds.clear()
        if self._call is not None:
            self._call.detach(self, stopped=stopped)
            self._call = None

    def _no_start(self) -> None:
        _log.warning("no start in time", carrier=self.carrier)
        self._close(1008, "no start")

    def _close(self, code: int, reason: str) -> None:
        if self._closing is None and self._ws is not None:
            self._closing = (code, reason)
            self._nursery.start(_hang_up(self._ws, code, reason), name=f"close {self.carrier} {self.stream_id}")


async def _hang_up(ws: web.WebSocketResponse, code: int, reason: str) -> None:
    """Close a socket from either side of it; one that does not answer is let go."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(HANG_UP_SECONDS):
            await ws.close(code=code, message=reason.encode()[:100])
