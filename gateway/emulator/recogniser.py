"""
The seam behind which the service hears: a recogniser for each session, made by a factory that all sessions share.

`Tones` hears coded speech (`tones.py`), at once and on the event loop; `sphinx.py` hears English.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from gateway.audio import g711
from gateway.emulator.messages import Word
from gateway.emulator.parameters import ENCODINGS, Parameters
from gateway.emulator.tones import Ear, spelled


class Recogniser(Protocol):
    """One session's hearing. All times are milliseconds since its first sample."""

    @property
    def heard_ms(self) -> int:
        """How much audio was fed."""

    @property
    def silence_ms(self) -> int:
        """How long nobody has spoken, at the end of it."""

    @property
    def since_ms(self) -> int | None:
        """When the speech began that was not yet cut off; None where there is none."""

    def feed(self, pcm16le: bytes) -> None:
        """Take the next piece of audio, at most 100 ms. Cheap."""

    async def words(self) -> Sequence[Word]:
        """What was said since the last cut, so far."""

    async def cut(self) -> Sequence[Word]:
        """What was said since the last cut, for good: the next turn begins here."""

    async def flush(self) -> Sequence[Word]:
        """The last cut: the audio has ended."""


class Recognition(Protocol):
    """What makes recognisers; it may hold processes and models while it is entered."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exception: object) -> None: ...

    def listen(self, rate: int) -> Recogniser:
        """A recogniser for PCM16LE of *rate*."""


class Tones:
    """Hears coded speech: counts every word."""

    def __init__(self, rate: int) -> None:
        self._ear = Ear(rate)
        self._words: list[Word] = []

    @property
    def heard_ms(self) -> int:
        return self._ear.heard_ms

    @property
    def silence_ms(self) -> int:
        return self._ear.silence_ms

    @property
    def since_ms(self) -> int | None:
        return self._words[0].start_ms if self._words else None

    def feed(self, pcm16le: bytes) -> None:
        self._words += [Word(spelled(word), start_ms, end_ms) for word, start_ms, end_ms in self._ear.feed(pcm16le)]

    async def words(self) -> Sequence[Word]:
        return tuple(self._words)

    async def cut(self) -> Sequence[Word]:
        """A word that sounds at the cut belongs to the next turn, whole."""
        words, self._words = tuple(self._words), []
        return words

    async def flush(self) -> Sequence[Word]:
        self._words += [Word(spelled(word), start_ms, end_ms) for word, start_ms, end_ms in self._ear.flush()]
        return await self.cut()


class CodedSpeech:
    """Makes `Tones`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    def listen(self, rate: int) -> Recogniser:
        """A recogniser of coded speech."""
        return Tones(rate)


class Deaf:
    """Hears nothing: for encodings that the emulator does not decode, and rates at which it cannot hear."""

    heard_ms = 0
    silence_ms = 0
    since_ms: int | None = None

    def feed(self, pcm16le: bytes) -> None:
        pass

    async def words(self) -> Sequence[Word]:
        return ()

    cut = flush = words


def listen(recognition: Recognition, parameters: Parameters) -> tuple[Recogniser, Callable[[bytes], bytes]]:
    """The recogniser for a session's audio, and what turns its frames into PCM16LE."""
    if not ENCODINGS[parameters.encoding]:
        return Deaf(), bytes
    try:
        recogniser = recognition.listen(parameters.sample_rate)
    except ValueError:
        return Deaf(), bytes
    if parameters.encoding == "pcm_mulaw":
        return recogniser, lambda payload: g711.decode(payload, "PCMU")
    return recogniser, bytes


RECOGNISERS: tuple[str, ...] = ("tones", "sphinx")


def recognition(name: str) -> Recognition:
    """
    The recognition of a name.

    Raises:
        ConfigurationFault: If it is not installed.
        ValueError: If there is no such.
    """
    if name == "tones":
        return CodedSpeech()
    if name == "sphinx":
        from gateway.emulator.sphinx import English  # noqa: PLC0415  an optional extra, loaded where it is asked for

        return English()
    raise ValueError(f"no recogniser {name!r}: one of {', '.join(RECOGNISERS)}")
