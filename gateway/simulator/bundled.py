"""The bundled call: two parties, English, and what they say. Where it comes from: `data/README.md`."""

from pathlib import Path
from typing import Final

import msgspec

from gateway.call import Track
from gateway.simulator.count import words_of

_DATA: Final = Path(__file__).parent / "data"
AUDIO: Final = _DATA / "delivery.wav"
TEXT: Final = _DATA / "delivery.ndjson"


class Sentence(msgspec.Struct, frozen=True):
    """What one party says without a break of the other's."""

    track: Track
    start_ms: int
    end_ms: int
    text: str


def sentences() -> list[Sentence]:
    """All of the call, in order."""
    return [msgspec.json.decode(line, type=Sentence) for line in TEXT.read_bytes().splitlines()]


def reference(track: Track) -> list[str]:
    """The words of one party, as a recogniser would spell them."""
    return [word for sentence in sentences() if sentence.track == track for word in words_of(sentence.text)]
