"""
The mouth of a session: a span's audio from the buffer, through the path, paced, to the socket.

Bytes are read when they make the next chunk, and no sooner: reading each frame as it comes would cost three times the calls,
reading whole chunks would hold audio back for a frame more than the path itself does.
"""

import asyncio
from typing import Final, Protocol

from gateway.audio import g711
from gateway.audio.path import Audio, open_path
from gateway.buffer import AudioBuffer
from gateway.ear import Conversation, Ear
from gateway.metrics import Metrics
from gateway.span import Span
from gateway.speech.protocol import State
from gateway.speech.session import Session
from gateway.timeline import SAMPLES_PER_MS

_CHUNK: Final = 60 * SAMPLES_PER_MS
_HELD_BY_RESAMPLER: Final = 30 * SAMPLES_PER_MS
_NO_ROOM_SECONDS: Final = 0.2
_LEAST_READ: Final = 20 * SAMPLES_PER_MS


class Skipped(Protocol):
    """Told what of a span has given way in the buffer: from its cursor to *floor*; `first`: before anybody heard it."""

    def __call__(self, span: Span, floor: int, *, first: bool) -> None: ...


class Feed:
    """One session being fed with what comes next of its span."""

    def __init__(
        self,
        *,
        call: Conversation,
        span: Span,
        session: Session,
        ear: Ear,
        buffer: AudioBuffer,
        audio: Audio,
        encoding: g711.Encoding,
        metrics: Metrics,
        skipped: Skipped,
    ) -> None:
        rate = int(str(session.speech.get("sample_rate", 16000)))
        self._span = span
        self._session = session
        self._ear = ear
        self._buffer = buffer
        self._metrics = metrics
        self._skipped = skipped
        self._call = call
        self._path = open_path(audio, encoding, rate)
        self._ahead = _CHUNK + (_HELD_BY_RESAMPLER if rate != g711.RATE_HZ else 0)
        self._sent = 0
        """Samples at 8 kHz that the chunks sent so far stand for."""
        self._sent_seconds = metrics.audio_sent_seconds_total.labels(ear.track)
        self._loop = asyncio.get_running_loop()

    async def run(self) -> bool:
        """Feed until the span has ended and all of it was sent; False where the session was lost first."""
        span, buffer, placement = self._span, self._buffer, self._ear.placement
        while not self._session.over:
            if span.cursor is None:
                if span.start is not None:
                    span.cursor = span.start
                elif span.ended:
                    return True
                else:
                    await buffer.more(buffer.head + 1)
                continue
            want = max(self._sent + self._ahead - placement.fed, _LEAST_READ)
            if buffer.head < span.cursor + want and not span.ended:
                await buffer.more(span.cursor + want)
                continue
            if not self._call.has_room:
                # Words that could not be kept would be lost unsaid; audio that waits too long is said to be.
                await self._session.pause(_NO_ROOM_SECONDS)
                continue
            if buffer.floor > span.cursor or self._ear.from_ is None:
                self._skip_lost()
            at, payload = self._read(want)
            if payload:
                placement.feed(at, len(payload))
                span.cursor = at + len(payload)
                await self._send(self._path.push(payload))
            elif span.ended and span.cursor >= span.until_or_head(buffer.head):
                await self._send(self._path.finish())
                return not self._session.over
            else:
                await buffer.more(max(span.cursor, at) + want)  # behind a hole: from there on
        return False

    def _read(self, want: int) -> tuple[int, bytes]:
        """The next bytes of the span: as many as wanted, or what is there before a hole or the span's end."""
        span, buffer = self._span, self._buffer
        assert span.cursor is not None
        end = buffer.head if span.until is None else span.until
        at, payload = buffer.read(span.cursor, min(want + _LEAST_READ, max(0, end - span.cursor)))
        if span.until is None and len(payload) >= want:  # nearly always
            return at, payload
        if at >= end:
            return end, b""
        payload = payload[: end - at]
        behind = at + len(payload)
        if len(payload) >= want or behind < buffer.head or (span.ended and behind >= end):
            return at, payload
        return at, b""

    def _skip_lost(self) -> None:
        """Go on behind what gave way before it was heard."""
        span, floor = self._span, self._buffer.floor
        assert span.cursor is not None
        first = self._ear.from_ is None
        if floor > span.cursor:
            self._skipped(span, floor, first=first)
            span.cursor = floor
        if first:
            self._ear.from_ = span.cursor

    async def _send(self, chunks: list[bytes]) -> None:
        session = self._session
        for chunk in chunks:
            ms = len(chunk) / self._path.bytes_per_ms
            while (wait := session.pace.wait(ms, self._loop.time())) > 0:
                await session.pause(wait)
                if session.over:
                    return
            if session.state is not State.OPEN:
                return
            await session.send(chunk, ms)
            self._sent += _CHUNK
            self._sent_seconds.inc(ms / 1000)
            now = self._loop.time()
            delays = [now - arrived for arrived in self._buffer.arrivals(self._ear.placement.position(self._sent))]
            self._metrics.audio_delay_seconds.observe_many(delays)
