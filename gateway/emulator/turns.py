"""
When a turn begins, is said so far, and ends, and who is said to have spoken it. Pure: time is the session's audio clock.

The shell shows it what was heard (`look`), gets to know what is due, fetches the words that it takes, and sends what
`partial`, `final`, `silence`, `revision` return.
"""

from collections.abc import Sequence
from typing import Final, Literal

from gateway.emulator import messages
from gateway.emulator.faults import Faults
from gateway.emulator.messages import Message, Word
from gateway.emulator.parameters import Parameters

Due = Literal["nothing", "partial", "final"]

PENDING: Final = "PENDING"
_LEAST_REVISION_INTERVAL_MS: Final = 120_000
_FILLER: Final = "uh"


class Turns:
    """One session's turns. `parameters` may be replaced at any time."""

    def __init__(self, parameters: Parameters, knobs: Faults) -> None:
        self.parameters = parameters
        self._knobs = knobs
        self._order = 0
        self._started = False
        self._partial_ms: int | None = None
        self._said: Sequence[Word] = ()
        self._silence_said_ms = 0
        self._unrevised: dict[int, tuple[Sequence[Word], str]] = {}
        self._revised_ms = 0

    @property
    def ended(self) -> int:
        """How many turns are final."""
        return self._order

    def look(self, heard_ms: int, silence_ms: int, since_ms: int | None) -> Due:
        """What is due, where the open turn's speech began at *since_ms* and has been silent for *silence_ms*."""
        if since_ms is None:
            return "nothing"
        cap_seconds = self._knobs.turn_cap_seconds or (10 if self.parameters.speaker_labels else 60)
        if silence_ms >= self._end_silence_ms or heard_ms - since_ms >= cap_seconds * 1000:
            return "final"
        if not self.parameters.partials:
            return "nothing"
        every_ms = self._knobs.partial_every_ms or self.parameters.partial_every_ms
        if self._partial_ms is None:
            first_ms = min(every_ms, self.parameters.first_partial_ms)
            return "partial" if heard_ms - since_ms >= first_ms else "nothing"
        return "partial" if heard_ms - self._partial_ms >= every_ms else "nothing"

    @property
    def _end_silence_ms(self) -> int:
        asked = self.parameters.given
        low, high = self.parameters.turn_silence_ms
        wanted = self._knobs.end_silence_ms
        if "min_turn_silence" in asked:
            wanted = max(wanted, low)
        return min(wanted, high) if "max_turn_silence" in asked else wanted

    def partial(self, heard_ms: int, words: Sequence[Word]) -> list[Message]:
        """The turn so far; nothing where nothing new was heard."""
        if self._partial_ms is None and not words:
            return []  # the first partial comes with the first word
        self._partial_ms = heard_ms
        words = self._edged(words)
        if not words or words == self._said:
            return []
        self._said = words
        u3 = self.parameters.is_u3
        return [
            *self._start(words),
            messages.turn(self._order, words, final=False, formatted=u3, words_final=not u3),
        ]

    def final(self, words: Sequence[Word]) -> list[Message]:
        """The turn for good, all its messages; nothing where there was none."""
        if not words:
            return []
        knobs, order = self._knobs, self._order
        true_ms = words[-1].end_ms - words[0].start_ms
        speaker = self._speaker(order)
        pending = true_ms < knobs.pending_below_ms
        words = list(self._edged(words))
        if knobs.pad_end_ms:
            words[-1] = words[-1]._replace(end_ms=words[-1].end_ms + knobs.pad_end_ms)
        if knobs.huge_turn_words:
            last = words[-1]
            words += [Word(_FILLER, last.end_ms, last.end_ms, 0.5)] * knobs.huge_turn_words
        labelled = self.parameters.speaker_labels
        label, word_label = (PENDING, None) if pending else (speaker, speaker)
        said = self._start(words)
        formats = self.parameters.flag("format_turns")
        for formatted in (True,) if self.parameters.is_u3 else (False, True) if formats else (False,):
            said.append(
                messages.turn(
                    order,
                    words,
                    final=True,
                    formatted=formatted,
                    speaker=label if labelled else None,
                    word_speaker=word_label if labelled else None,
                    extra=self._language(),
                )
            )
        if knobs.extras:
            said.append(messages.llm_gateway_response(order, said[-1]["transcript"]))
        if knobs.duplicate_final:
            said += [message for message in said if message["type"] == "Turn"][-1:]
        if labelled and pending:
            self._unrevised[order] = (words, speaker)
        self._order += 1
        self._started, self._partial_ms, self._said = False, None, ()
        return said

    def empty(self) -> list[Message]:
        """A final without a word, as the service sometimes sends."""
        message = messages.turn(self._order, (), final=True)
        self._order += 1
        return [message]

    def silence(self, heard_ms: int, silence_ms: int) -> list[Message]:
        """`Silence`, about once a second of it, where the client asked."""
        if not (self.parameters.flag("acknowledge_silence") and self.parameters.is_u3):
            return []
        start_ms = max(self._silence_said_ms, heard_ms - silence_ms)
        if heard_ms - start_ms < 1000:
            return []
        self._silence_said_ms = heard_ms
        return [messages.silence(start_ms, heard_ms)]

    def revision_due(self, heard_ms: int) -> bool:
        """Whether a revision is due in mid-session."""
        interval_ms = int(self.parameters.given.get("speaker_labels_revision_interval_ms", 0))
        return interval_ms > 0 and heard_ms - self._revised_ms >= max(interval_ms, _LEAST_REVISION_INTERVAL_MS)

    def revision(self, heard_ms: int) -> list[Message]:
        """The turns whose speaker is known by now and was said otherwise: one message, or none."""
        self._revised_ms = heard_ms
        if not self._unrevised:
            return []
        revisions = [messages.revision(order, words, speaker) for order, (words, speaker) in self._unrevised.items()]
        self._unrevised = {}
        if self._knobs.unordered_revision:
            revisions = [*revisions[::-1], messages.revision(999_999, (), "A"), *revisions]
        return [messages.speaker_revision(revisions)]

    def _start(self, words: Sequence[Word]) -> list[Message]:
        if self._started or not self.parameters.is_u3:
            return []
        self._started = True
        return [messages.speech_started(words[0].start_ms)]

    def _edged(self, words: Sequence[Word]) -> Sequence[Word]:
        """The words with the first one's start as early as the knob says."""
        if not words or not self._knobs.early_start_ms:
            return words
        start_ms = max(0, words[0].start_ms - self._knobs.early_start_ms)
        return [words[0]._replace(start_ms=start_ms), *words[1:]]

    def _speaker(self, order: int) -> str:
        voices = min(self._knobs.speakers, int(self.parameters.given.get("max_speakers", 10)))
        return "ABCDEFGHIJ"[order % max(1, voices)]

    def _language(self) -> Message | None:
        if not self.parameters.flag("language_detection"):
            return None
        return {"language_code": "en", "language_confidence": 0.998}
