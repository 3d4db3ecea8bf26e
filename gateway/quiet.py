"""Where nobody speaks: the places where audio may be cut. Pure, on G.711 bytes; milliseconds."""

from typing import Final

from gateway.audio import g711

FRAME_MS: Final = 20
_FRAME: Final = FRAME_MS * 8
_FLOOR: Final = 250
"""Loudness (of 32767) under which a telephone line is quiet whatever else is on it."""
_SHARE: Final = 0.08
"""Of the loudest frame near by: quieter than that is a pause between words."""


def loudness(payload: bytes, encoding: g711.Encoding) -> list[int]:
    """Root mean square of each whole 20 ms."""
    return [g711.rms(payload[i : i + _FRAME], encoding) for i in range(0, len(payload) - _FRAME + 1, _FRAME)]


def runs(payload: bytes, encoding: g711.Encoding, shortest_ms: int) -> list[tuple[int, int]]:
    """Stretches without a voice, at least so long: (from, to) in milliseconds from the first byte."""
    loud = loudness(payload, encoding)
    limit = max(_FLOOR, int(max(loud, default=0) * _SHARE))
    found: list[tuple[int, int]] = []
    since: int | None = None
    for i, level in enumerate([*loud, limit + 1]):
        if level <= limit:
            since = i if since is None else since
        elif since is not None:
            if (i - since) * FRAME_MS >= shortest_ms:
                found.append((since * FRAME_MS, i * FRAME_MS))
            since = None
    return found


def voiced_ms(payload: bytes, encoding: g711.Encoding) -> int:
    """How much of it is louder than a quiet line."""
    return sum(level > _FLOOR for level in loudness(payload, encoding)) * FRAME_MS
