"""
A leg's turns across its sessions: numbered, timed on the call's clock, each final once. Pure.

A leg is heard by one session after another (loss, rotation, a pause, a carrier that came back), and two may speak at once: the
old one ending, the new one hearing already. Turns come out in the order of the sessions: what a later session says is held
until every earlier one is over, so that numbers need no correction.

A session that begins where an earlier one has heard already (replay, overlap) says words again. They are recognised by time
*and* text, one to one and in order, against the words that are final already; what remains is new. So a word that was really
said three times running is neither swallowed nor doubled.
"""

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.call import Track, Turn, Word
from gateway.speech import protocol

Place = Callable[[float], int]
"""From milliseconds of a session's audio to milliseconds on the call's clock."""

SAME_WORD_MS: Final = 1000
"""Two hearings of one word begin at most so far apart: a first word after silence may be told up to 1 s early."""
REHEARD_FROM_MS: Final = 100
_EDGE_MS: Final = 50
CUT_EDGE_MS: Final = 80
_MOST_ALIGNED: Final = 400
_LETTER: Final = re.compile(r"[A-Z]")


@dataclass(frozen=True, slots=True)
class Said:
    """A turn became final."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Partial:
    """A turn as heard so far; an empty text withdraws it."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Revised:
    """Turns whose speakers changed, whole."""

    turns: tuple[Turn, ...]


Fact = Said | Partial | Revised


@dataclass(slots=True)
class _Published:
    """A turn that went out: which of the service's words it holds."""

    turn: Turn
    kept: tuple[tuple[float, str], ...]
    """Start on the session's clock, and text."""


@dataclass(slots=True)
class Hearing:
    """What one session has said. Handed out by `LegTranscript.hearing`; only the transcript looks inside."""

    order: tuple[int, int]
    session_id: str
    place: Place
    languages: bool
    formatted: bool
    """Turns come twice, formatted the second time."""
    reheard_ms: int | None
    """From where on the call's clock earlier words may be said again; None where nothing can be."""
    over: bool = False
    open: dict[int, protocol.Turn] = field(default_factory=dict)
    """The newest partial of each turn that is not final."""
    started_ms: float | None = None
    """Speech was announced there, on the session's clock, and no turn has come of it yet."""
    finals: set[int] = field(default_factory=set)
    waiting: protocol.Turn | None = None
    """A final turn whose formatted form may follow."""
    waited: bool = False
    hole: bool = False
    """A later turn became final, this one never did: its words would be lost."""
    held: deque[tuple[str, object]] = field(default_factory=deque)
    known: list[Word] | None = None
    """Words final before this session spoke, not yet said again."""
    published: dict[int, _Published] = field(default_factory=dict)
    shown: bool = False
    """A partial of it is on somebody's screen."""
    cut_ms: tuple[int, int] | None = None
    """Its audio was cut at the second, and a later session hears on from the first: a word on the cut is the later one's."""

    @property
    def open_from_ms(self) -> int | None:
        """Where on the call's clock the open turn begins; None where none is open."""
        starts = [turn.words[0].start for turn in self.open.values() if turn.words]
        if self.waiting is not None and self.waiting.words:
            starts.append(self.waiting.words[0].start)
        if self.started_ms is not None:
            starts.append(self.started_ms)
        if starts:
            return self.place(min(starts))
        return self.place(0) if self.open else None


class LegTranscript:
    """The turns of one leg, in order."""

    def __init__(self, track: Track, next_index: int = 0) -> None:
        self.track = track
        self.next_index = next_index
        self.turns: dict[int, Turn] = {}
        """Final turns by index, as last revised."""
        self.heard_to_ms: int | None = None
        """Where the last final word begins: all before it has been heard."""
        self.heard_end_ms: int | None = None
        """Where it ends, as far as the service's ends can be believed: a second after its beginning at the latest."""
        self._hearings: dict[tuple[int, int], Hearing] = {}
        self._spans_over: set[int] = set()
        self._spans: set[int] = set()
        self._words: list[Word] = []
        self._orphans: list[tuple[Hearing, protocol.Turn]] = []

    def span(self, number: int) -> None:
        """A stretch of the leg's audio begins, heard by sessions (number, 0), (number, 1), …"""
        self._spans.add(number)

    def hearing(
        self,
        order: tuple[int, int],
        session_id: str,
        place: Place,
        *,
        languages: bool = False,
        formatted: bool = False,
        reheard_ms: int | None = None,
    ) -> Hearing:
        """A session begins to speak."""
        hearing = Hearing(order, session_id, place, languages, formatted, reheard_ms)
        self._hearings[order] = hearing
        return hearing

    def turn(self, hearing: Hearing, message: protocol.Turn) -> list[Fact]:
        """The service said a turn."""
        order = message.turn_order
        again = hearing.waiting is not None and hearing.waiting.turn_order == order
        if order in hearing.finals and not (again and message.end_of_turn):
            return []  # said twice
        facts: list[Fact] = []
        if hearing.waiting is not None and not again:
            facts += self._settle_waiting(hearing)
        hearing.started_ms = None
        if not message.end_of_turn:
            hearing.open[order] = message
            return facts + self._say(hearing, "partial", message)
        if any(earlier < order for earlier in hearing.open):
            hearing.hole = True
            return facts
        hearing.open.pop(order, None)
        hearing.finals.add(order)
        if hearing.formatted and not message.turn_is_formatted:
            hearing.waiting, hearing.waited = message, False
            return facts
        hearing.waiting = None
        return facts + self._say(hearing, "final", message)

    def started(self, hearing: Hearing, message: protocol.SpeechStarted) -> None:
        """Speech was announced: a turn is open though nothing of it was said yet."""
        if message.timestamp is not None:
            hearing.started_ms = message.timestamp

    def tick(self, hearing: Hearing) -> list[Fact]:
        """Some seconds went by (a heartbeat came): a turn does not wait for its formatted form for ever."""
        if hearing.waiting is None:
            return []
        if hearing.waited:
            return self._settle_waiting(hearing)
        hearing.waited = True
        return []

    def revision(self, hearing: Hearing, message: protocol.SpeakerRevision) -> list[Fact]:
        """The service hears other speakers in turns it has said."""
        return self._say(hearing, "revision", message)

    def over(self, hearing: Hearing) -> list[Fact]:
        """A session says nothing more. Its open turn is withdrawn; until another hears it, or none will, it is an orphan."""
        facts = self._settle_waiting(hearing)
        left = [hearing.open[order] for order in sorted(hearing.open) if hearing.open[order].transcript]
        facts += self._say(hearing, "orphans", left)
        hearing.open.clear()
        hearing.started_ms = None
        hearing.over = True
        return facts + self._release()

    def adopt(self) -> list[Fact]:
        """No session will hear the orphans again: what was heard of them is their final form."""
        facts: list[Fact] = []
        orphans, self._orphans = self._orphans, []
        for hearing, message in orphans:
            facts += self._final(hearing, message)
        return facts

    def disown(self) -> None:
        """A session heard on to the end: what it did not say again was not said."""
        self._orphans.clear()

    def span_over(self, number: int) -> list[Fact]:
        """No further session hears this stretch."""
        self._spans_over.add(number)
        return self._release()

    def remember(self, turns: Sequence[Turn]) -> None:
        """Turns that were final before a crash."""
        for turn in turns:
            self.turns[turn.index] = turn
            if turn.words:
                self.heard_to_ms = max(self.heard_to_ms or 0, turn.words[-1].start_ms)

    def forget(self) -> None:
        """The call has ended: what follows, if a stream opens it anew, is told of its own."""
        self.turns.clear()

    def _front(self, hearing: Hearing) -> bool:
        """Whether every session before this one is over."""
        span, number = hearing.order
        if any(earlier < span for earlier in self._spans - self._spans_over):
            return False
        return all(other.over for order, other in self._hearings.items() if order < (span, number))

    def _say(self, hearing: Hearing, kind: str, what: object) -> list[Fact]:
        if hearing.held or not self._front(hearing):
            if kind == "partial" and hearing.held and hearing.held[-1][0] == "partial":
                hearing.held.pop()  # only the newest is worth showing
            hearing.held.append((kind, what))
            return []
        return self._out(hearing, kind, what)

    def _release(self) -> list[Fact]:
        facts: list[Fact] = []
        for order in sorted(self._hearings):
            hearing = self._hearings[order]
            if not self._front(hearing):
                break
            while hearing.held:
                facts += self._out(hearing, *hearing.held.popleft())
            if not hearing.over:
                break
        self._tidy()
        return facts

    def _tidy(self) -> None:
        """Sessions that are over and said are let go; a revision comes before its session's end."""
        for order in sorted(self._hearings):
            hearing = self._hearings[order]
            if not hearing.over or hearing.held or not self._front(hearing):
                break
            del self._hearings[order]
        lowest = min((span for span, _ in self._hearings), default=max(self._spans_over, default=0))
        gone = {span for span in self._spans_over if span < lowest}
        self._spans -= gone
        self._spans_over -= gone

    def _out(self, hearing: Hearing, kind: str, what: object) -> list[Fact]:
        match kind, what:
            case "partial", protocol.Turn() as message:
                turn, _, _ = self._made(hearing, message)
                if not turn.text and not hearing.shown:
                    return []
                hearing.shown = bool(turn.text)
                return [Partial(turn)]
            case "final", protocol.Turn() as message:
                return self._final(hearing, message)
            case "revision", protocol.SpeakerRevision() as message:
                return self._revised(hearing, message)
            case "orphans", list() as left:
                if left:
                    self._orphans = [(hearing, message) for message in left]
        return self._withdrawn(hearing)

    def _withdrawn(self, hearing: Hearing) -> list[Fact]:
        if not hearing.shown:
            return []
        hearing.shown = False
        at = self.heard_to_ms or 0
        index = self.next_index
        empty = Turn(f"{self.track}-{index}", index, "", at, at, None, None, None, (), hearing.session_id)
        return [Partial(empty)]

    def _final(self, hearing: Hearing, message: protocol.Turn) -> list[Fact]:
        turn, kept, matched = self._made(hearing, message)
        if matched and hearing.known is not None:
            del hearing.known[: matched[-1] + 1]
        if not turn.text:
            return self._withdrawn(hearing)
        hearing.shown = False
        self._orphans = [
            (other, orphan)
            for other, orphan in self._orphans
            if other is not hearing and orphan.words and other.place(orphan.words[0].start) > turn.end_ms
        ]
        self.next_index += 1
        self.turns[turn.index] = turn
        assert turn.words is not None
        self._words = [word for word in self._words if word.start_ms >= turn.start_ms - 120_000]
        self._words += turn.words
        last = turn.words[-1].start_ms if turn.words else turn.start_ms
        self.heard_to_ms = max(self.heard_to_ms or 0, last)
        self.heard_end_ms = max(self.heard_end_ms or 0, min(turn.end_ms, last + 1000))
        hearing.published[message.turn_order] = _Published(turn, tuple((word.start, word.text) for word in kept))
        return [Said(turn)]

    def _made(self, hearing: Hearing, message: protocol.Turn) -> tuple[Turn, Sequence[protocol.Word], Sequence[int]]:
        """A turn on the call's clock without the words said before; those that are kept; what they matched."""
        placed = [(hearing.place(word.start), hearing.place(word.end)) for word in message.words]
        matched: list[int] = []
        keep: Sequence[int] = range(len(placed))
        if hearing.reheard_ms is not None:
            if hearing.known is None:
                from_ms = hearing.reheard_ms - REHEARD_FROM_MS
                hearing.known = sorted((w for w in self._words if w.start_ms >= from_ms), key=lambda w: w.start_ms)
            keep, matched = self._new_words(hearing.known, message.words, [start for start, _ in placed])
        if hearing.cut_ms is not None:
            low, cut = hearing.cut_ms
            keep = [i for i in keep if placed[i][0] < low or placed[i][1] < cut - CUT_EDGE_MS]
        kept = [message.words[i] for i in keep]
        words = tuple(
            Word(word.text, placed[i][0], max(placed[i]), word.confidence, self._speaker(word.speaker))
            for i, word in zip(keep, kept, strict=True)
        )
        whole = len(kept) == len(message.words)
        text = message.transcript.strip() if whole else " ".join(word.text for word in kept)
        if not text and whole:
            text = " ".join(word.text for word in kept)
        start = words[0].start_ms if words else hearing.open_from_ms or self.heard_to_ms or 0
        sure = [word.confidence for word in words if word.confidence is not None]
        turn = Turn(
            id=f"{self.track}-{self.next_index}",
            index=self.next_index,
            text=text,
            start_ms=start,
            end_ms=max((word.end_ms for word in words), default=start),
            speaker=self._speaker(message.speaker_label),
            confidence=round(sum(sure) / len(sure), 6) if sure else None,
            language=message.language_code if hearing.languages else None,
            words=words,
            session_id=hearing.session_id,
        )
        return turn, kept, matched

    def _new_words(
        self, known: Sequence[Word], words: Sequence[protocol.Word], starts: Sequence[int]
    ) -> tuple[Sequence[int], list[int]]:
        """Which words were not said before, and which known ones the others were."""
        if not known or not words:
            return range(len(words)), []
        pairs = align(
            [(_plain(w.text), w.start_ms) for w in known],
            [(_plain(w.text), s) for w, s in zip(words, starts, strict=True)],
        )
        said = {heard for _, heard in pairs}
        spans = [
            (turn.words[0].start_ms - _EDGE_MS, turn.words[-1].start_ms + _EDGE_MS)
            for turn in self.turns.values()
            if turn.words and turn.words[-1].start_ms >= known[0].start_ms
        ]
        # Inside a turn that is final already the same audio was heard another way: that is no new word either.
        keep = [
            i
            for i, start in enumerate(starts)
            if i not in said and not any(low <= start <= high for low, high in spans)
        ]
        return keep, [before for before, _ in pairs]

    def _revised(self, hearing: Hearing, message: protocol.SpeakerRevision) -> list[Fact]:
        changed: list[Turn] = []
        for revision in message.revisions:
            published = hearing.published.get(revision.turn_order)
            if published is None or published.turn.words is None:
                continue
            speakers = {(word.start, word.text): word.speaker for word in revision.words}
            in_order = [word.speaker for word in revision.words]
            words = tuple(
                Word(
                    word.text,
                    word.start_ms,
                    word.end_ms,
                    word.confidence,
                    self._speaker(
                        speakers.get(
                            key,
                            in_order[i] if len(in_order) == len(published.kept) else word.speaker and word.speaker[-1],
                        )
                    ),
                )
                for i, (word, key) in enumerate(zip(published.turn.words, published.kept, strict=True))
            )
            old = published.turn
            label = self._speaker(revision.speaker_label)
            new = Turn(
                old.id,
                old.index,
                old.text,
                old.start_ms,
                old.end_ms,
                label,
                old.confidence,
                old.language,
                words,
                old.session_id,
            )
            if new != old:
                published.turn = new
                if old.index in self.turns:
                    self.turns[old.index] = new
                changed.append(new)
        return [Revised(tuple(changed))] if changed else []

    def _settle_waiting(self, hearing: Hearing) -> list[Fact]:
        if hearing.waiting is None:
            return []
        message, hearing.waiting = hearing.waiting, None
        return self._say(hearing, "final", message)

    def _speaker(self, label: str | None) -> str | None:
        """Contract §4: "`{track}:{label}`, or null where the service gave no letter"."""
        return f"{self.track}:{label}" if label is not None and _LETTER.fullmatch(label) else None


def align(known: Sequence[tuple[str, int]], heard: Sequence[tuple[str, int]]) -> list[tuple[int, int]]:
    """
    Pairs (known, heard) that are the same word heard twice: one to one, in order, as many as possible, then as close in time.

    Words are (plain text, start in ms), each list in order of start.
    """
    if not known or not heard:
        return []
    low = bisect_left(known, heard[0][1] - SAME_WORD_MS, key=lambda word: word[1])
    known = known[low : low + _MOST_ALIGNED]
    columns = min(len(heard), _MOST_ALIGNED)
    best: list[list[tuple[int, int]]] = [[(0, 0)] * (columns + 1) for _ in range(len(known) + 1)]
    for i in range(len(known) - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            choice = max(best[i + 1][j], best[i][j + 1])
            apart = abs(known[i][1] - heard[j][1])
            if known[i][0] == heard[j][0] and apart <= SAME_WORD_MS:
                matches, closeness = best[i + 1][j + 1]
                choice = max(choice, (matches + 1, closeness - apart))
            best[i][j] = choice
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(known) and j < columns:
        apart = abs(known[i][1] - heard[j][1])
        matches, closeness = best[i + 1][j + 1]
        if known[i][0] == heard[j][0] and apart <= SAME_WORD_MS and best[i][j] == (matches + 1, closeness - apart):
            pairs.append((low + i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _plain(text: str) -> str:
    """A word as it sounds: without case and punctuation, which change from hearing to hearing."""
    return "".join(c for c in text.casefold() if c.isalnum()) or text
