"""
A leg's turns across its sessions: numbered, timed on the call's clock, each final once. Pure.

A leg is heard by one session after another (loss, rotation, a pause, a carrier that came back), and two may speak at once: the
old one ending, the new one hearing already. Turns come out in the order of the sessions: what a later session says is held
until every earlier one is over, so that numbers need no correction.

A session that begins where an earlier one has heard already (replay, overlap) says words again. `rehearing` tells which, by
time and text; where those cannot tell, the rest does: which words follow, what the lost session had begun to say, and whether
there was a voice.
"""

import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from gateway.call import Track, Turn, Word
from gateway.rehearing import (
    CLIPPED,
    EDGE_MS,
    JITTER_MS,
    MISSED,
    OPEN,
    PERHAPS,
    REACH_MS,
    SHORTEST_WORD_MS,
    TWICE_MS,
    Heard,
    Known,
    Place,
    align,
    heard_of,
    known_open,
    latest_of,
    longest_ms,
    new_words,
    plain_of,
)
from gateway.speech import protocol

Saying = protocol.Turn | protocol.SpeakerRevision | list[protocol.Turn]
"""A turn, other speakers of earlier turns, or what was open at a session's end."""

Voiced = Callable[[int, int], int | None]
"""How much voice lies between two times on the call's clock, in milliseconds; None where that cannot be told any more."""

CUT_EDGE_MS: Final = 80
"""A word that ends less than this before a cut may have been cut."""
_REMEMBERED_MS: Final = 120_000
"""No session is lost further behind the last final word: a turn's cap is 60 s."""
_MOST_REMEMBERED: Final = 1000
_COMPARED_AGAIN: Final = 12
"""Words said again that are compared once more with those that follow."""


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


class _Published(NamedTuple):
    """A turn that went out: which of the service's words it holds."""

    number: int
    of: int
    """How many words the service's turn has …"""
    keep: Sequence[int]
    """… and which of them are kept."""


@dataclass(slots=True, eq=False)
class _Span:
    """A stretch of the leg's audio."""

    over: bool = False
    cut_ms: tuple[int, int] | None = None


@dataclass(slots=True, eq=False)
class Hearing:
    """What one session has said. Handed out by `LegTranscript.hearing`; only the transcript looks inside."""

    order: tuple[int, int]
    span: _Span
    session_id: str
    place: Place
    languages: bool
    formatted: bool
    """Turns come twice, formatted the second time."""
    reheard_ms: int | None
    """From where on the call's clock earlier words may be said again; None where nothing can be."""
    over: bool = False
    open: dict[int, protocol.Turn] = field(default_factory=dict)
    """The newest form of each turn that is not final, where anything was heard of it."""
    started_ms: float | None = None
    """Speech was announced there, on the session's clock, and no turn has come of it yet."""
    finals: set[int] = field(default_factory=set)
    final_to_ms: float = 0.0
    """Where its last final word begins, on the session's clock."""
    waiting: protocol.Turn | None = None
    """A final turn whose formatted form may follow."""
    waited: bool = False
    hole: bool = False
    """A later turn became final, this one did not: its words would be lost. Nothing more is taken from this session."""
    held: deque[Saying] = field(default_factory=deque)
    known: list[Known] | None = None
    """What it may say again, and the last that it has; empty once it speaks of later things. None before it spoke."""
    again: list[Heard] = field(default_factory=list)
    """What it has said again last."""
    published: dict[int, _Published] = field(default_factory=dict)
    shown: bool = False
    """A partial of it is on somebody's screen."""
    heard_again: bool = False
    """A later session of its span has begun."""

    @property
    def cut_ms(self) -> tuple[int, int] | None:
        """Its span was cut at the second, and a later one is heard from the first on: a word on the cut is the later one's."""
        return self.span.cut_ms

    @cut_ms.setter
    def cut_ms(self, cut: tuple[int, int] | None) -> None:
        self.span.cut_ms = cut

    @property
    def open_from_ms(self) -> int | None:
        """Where on the call's clock the open turn begins; None where none is open."""
        turns = [*self.open.values(), *([] if self.waiting is None else [self.waiting])]
        starts = [turn.words[0].start for turn in turns if turn.words]
        if self.started_ms is not None:
            starts.append(self.started_ms)
        if turns and not starts:
            starts.append(self.final_to_ms)  # its words were unusable
        return self.place(min(starts)) if starts else None


class _Final(NamedTuple):
    """A turn that went out, and who said it."""

    turn: Turn
    by: Hearing
    latest: int | None
    """When its first word began at the latest; None where that is not the first one of the turn as the service cut it."""


class _FinalWord(NamedTuple):
    """A word of a turn that went out."""

    heard: Heard
    end: int
    first: bool
    """The first one of its turn, as the service cut it."""
    turn: int
    by: Hearing


class LegTranscript:
    """The turns of one leg, in order."""

    def __init__(self, track: Track, next_index: int = 0, voiced: Voiced = lambda _from_ms, _to_ms: None) -> None:
        self.track = track
        self.next_index = next_index
        self.turns: dict[int, Turn] = {}
        """Final turns by index, as last revised."""
        self.heard_to_ms: int | None = None
        """Where the last final word begins: all before it has been heard."""
        self.heard_end_ms: int | None = None
        """Where it ends, as far as the service's ends can be believed: no later than so many letters take."""
        self._voiced = voiced
        self._hearings: dict[tuple[int, int], Hearing] = {}
        self._spans: dict[int, _Span] = {}
        self._finals: deque[_Final] = deque(maxlen=_MOST_REMEMBERED)
        """The last minutes' final turns, as they were said."""
        self._orphans: list[tuple[Hearing, protocol.Turn]] = []
        self._cutter: Hearing | None = None
        self._on_cut: list[Known] = []
        """Words of that one on its span's cut: left to the span behind it, which has said nothing yet."""

    def span(self, number: int) -> None:
        """A stretch of the leg's audio begins, heard by sessions (number, 0), (number, 1), …"""
        self._spans[number] = _Span()

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
        # It may begin when nobody waits for its span any more.
        span = self._spans.setdefault(order[0], _Span(over=True))
        for other in [*self._hearings.values(), *(orphan for orphan, _ in self._orphans)]:
            other.heard_again = other.heard_again or other.span is span
        hearing = Hearing(order, span, session_id, place, languages, formatted, reheard_ms)
        self._hearings[order] = hearing
        return hearing

    def turn(self, hearing: Hearing, message: protocol.Turn) -> list[Fact]:
        """The service said a turn."""
        order = message.turn_order
        again = hearing.waiting is not None and hearing.waiting.turn_order == order
        if hearing.over or hearing.hole or (order in hearing.finals and not (again and message.end_of_turn)):
            return []  # too late, or said twice
        facts = [] if again else self._settle_waiting(hearing)
        hearing.started_ms = None
        hearing.open.pop(order, None)
        first = all(order < other for other in hearing.open)
        if not message.end_of_turn:
            if message.words or message.transcript:
                hearing.open[order] = message
            return facts + (self._say(hearing, message) if first else [])
        if not first:
            hearing.open[order] = message
            hearing.hole = True
            return facts
        hearing.finals.add(order)
        if message.words:
            hearing.final_to_ms = message.words[-1].start
        if hearing.formatted and not message.turn_is_formatted:
            hearing.waiting, hearing.waited = message, False
            return facts
        hearing.waiting = None
        return facts + self._say(hearing, message)

    def started(self, hearing: Hearing, message: protocol.SpeechStarted) -> None:
        """Speech was announced: a turn is open though nothing of it was said yet."""
        if message.timestamp is not None:
            hearing.started_ms = message.timestamp

    def tick(self, hearing: Hearing) -> list[Fact]:
        """Some seconds went by (a heartbeat came): a turn does not wait for its formatted form for ever."""
        if hearing.waited:
            return self._settle_waiting(hearing)
        hearing.waited = hearing.waiting is not None
        return []

    def revision(self, hearing: Hearing, message: protocol.SpeakerRevision) -> list[Fact]:
        """The service hears other speakers in turns it has said."""
        named = {revision.turn_order for revision in message.revisions}
        waits = hearing.waiting is not None and hearing.waiting.turn_order in named
        facts = self._settle_waiting(hearing) if waits else []
        return facts + self._say(hearing, message)

    def over(self, hearing: Hearing) -> list[Fact]:
        """A session says nothing more. Its open turn is withdrawn; until another hears it, or none will, it is an orphan."""
        facts = self._settle_waiting(hearing)
        left = [turn for _, turn in sorted(hearing.open.items())]
        facts += self._say(hearing, left)
        hearing.open.clear()
        hearing.started_ms = None
        hearing.over = True
        return facts + self._release()

    def adopt(self, number: int | None = None) -> list[Fact]:
        """No session will hear the orphans (of a span) again: what was heard of them is their final form."""
        facts: list[Fact] = []
        since = self.next_index
        while left := self._of(number):
            orphan = left[0]
            keep = self._unsaid(*orphan, since)
            self._orphans.remove(orphan)
            facts += self._final(*orphan, keep)
        return facts

    def disown(self, number: int | None = None) -> None:
        """A session heard (a span) to the end: what it did not say again of earlier ones' orphans was not said."""
        for orphan in self._of(number):
            if orphan[0].heard_again:
                self._orphans.remove(orphan)

    def span_over(self, number: int) -> list[Fact]:
        """No further session hears this stretch."""
        self._spans.setdefault(number, _Span()).over = True
        return self._release()

    def remember(self, turns: Sequence[Turn]) -> None:
        """Turns that were final before a crash."""
        for turn in turns:
            self.turns[turn.index] = turn
            self.next_index = max(self.next_index, turn.index + 1)
            if turn.words:
                self.heard_to_ms = max(self.heard_to_ms or 0, turn.words[-1].start_ms)

    def forget(self) -> None:
        """The call has ended: what follows, if a stream opens it anew, is told of its own."""
        self.turns.clear()

    # The order of sessions

    def _front(self, hearing: Hearing) -> bool:
        """Whether every session before this one is over."""
        span, _ = hearing.order
        if any(number < span and not other.over for number, other in self._spans.items()):
            return False
        return all(other.over for order, other in self._hearings.items() if order < hearing.order)

    def _say(self, hearing: Hearing, what: Saying) -> list[Fact]:
        held = hearing.held
        if not held and self._front(hearing):
            return self._out(hearing, what)
        if held and isinstance(held[-1], protocol.Turn) and not held[-1].end_of_turn:
            held.pop()  # only the newest partial is worth showing, and only where nothing has followed
        held.append(what)
        return []

    def _release(self) -> list[Fact]:
        facts: list[Fact] = []
        for order in sorted(self._hearings):
            hearing = self._hearings[order]
            if not self._front(hearing):
                break
            while hearing.held:
                facts += self._out(hearing, hearing.held.popleft())
            if hearing.over:
                del self._hearings[order]
        heard = {number for number, _ in self._hearings}
        self._spans = {number: span for number, span in self._spans.items() if not span.over or number in heard}
        return facts

    def _out(self, hearing: Hearing, what: Saying) -> list[Fact]:
        if isinstance(what, protocol.SpeakerRevision):
            return self._revised(hearing, what)
        if isinstance(what, list):
            self._orphans += [(hearing, message) for message in what]
            return self._withdrawn(hearing)
        if what.end_of_turn:
            return self._final(hearing, what, self._new(hearing, what, final=True))
        turn = self._made(hearing, what, self._new(hearing, what))
        if not turn.text:
            return self._withdrawn(hearing)
        hearing.shown = True
        return [Partial(turn)]

    def _withdrawn(self, hearing: Hearing) -> list[Fact]:
        if not hearing.shown:
            return []
        hearing.shown = False
        at = self.heard_to_ms or 0
        index = self.next_index
        empty = Turn(f"{self.track}-{index}", index, "", at, at, None, None, None, (), hearing.session_id)
        return [Partial(empty)]

    # Turns on the call's clock

    def _made(self, hearing: Hearing, message: protocol.Turn, keep: Sequence[int]) -> Turn:
        """A turn of the words that are kept."""
        place, speaker = hearing.place, self._speaker
        heard = message.words if len(keep) == len(message.words) else [message.words[i] for i in keep]
        words = tuple(
            [
                # Its end goes by its length: it is told too late, perhaps behind a jump of the clock.
                Word(word.text, at, at + max(0, round(word.end - word.start)), word.confidence, speaker(word.speaker))
                for word, at in [(word, place(word.start)) for word in heard]
            ]
        )
        text = message.transcript.strip() if heard is message.words else ""
        start = words[0].start_ms if words else hearing.open_from_ms or self.heard_to_ms or 0
        sure = [word.confidence for word in words if word.confidence is not None]
        return Turn(
            id=f"{self.track}-{self.next_index}",
            index=self.next_index,
            text=text or " ".join([word.text for word in words]),
            start_ms=start,
            end_ms=max([word.end_ms for word in words], default=start),
            speaker=speaker(message.speaker_label),
            confidence=round(sum(sure) / len(sure), 6) if sure else None,
            language=message.language_code if hearing.languages else None,
            words=words,
            session_id=hearing.session_id,
        )

    def _final(self, hearing: Hearing, message: protocol.Turn, keep: Sequence[int]) -> list[Fact]:
        turn = self._made(hearing, message, keep)
        if not turn.text:
            return self._withdrawn(hearing)
        hearing.shown = False
        self.next_index += 1
        self.turns[turn.index] = turn
        hearing.published[message.turn_order] = _Published(turn.index, len(message.words), keep)
        if hearing is not self._cutter:
            self._cutter, self._on_cut = None, []
        last, longest = turn.start_ms, 0
        if turn.words:
            last, longest = turn.words[-1].start_ms, longest_ms(plain_of(turn.words[-1].text))
            second = hearing.place(message.words[1].start) if len(message.words) > 1 else None
            latest = latest_of(turn.words[0].start_ms, second) if keep[0] == 0 else None
            while self._finals and self._finals[0].turn.end_ms < turn.start_ms - _REMEMBERED_MS:
                self._finals.popleft()
            self._finals.append(_Final(turn, hearing, latest))
        self.heard_to_ms = max(self.heard_to_ms or 0, last)
        self.heard_end_ms = max(self.heard_end_ms or 0, min(turn.end_ms, last + longest))
        self._orphans = [orphan for orphan in self._orphans if orphan[0] is hearing or self._unsaid(*orphan)]
        return [Said(turn)]

    def _speaker(self, label: str | None) -> str | None:
        """Contract §4: "`{track}:{label}`, or null where the service gave no letter"."""
        if label is None or len(label) != 1 or not "A" <= label <= "Z":
            return None
        return sys.intern(f"{self.track}:{label}")  # every word of a call keeps one

    # What was said before

    def _new(self, hearing: Hearing, message: protocol.Turn, *, final: bool = False) -> Sequence[int]:
        """Which words of a turn were not said before."""
        keep: Sequence[int] = range(len(message.words))
        if hearing.reheard_ms is not None and message.words:
            if hearing.known is None:
                hearing.known = self._known(hearing, hearing.reheard_ms)
            if hearing.known:
                keep = _not_again(hearing, hearing.known, heard_of(hearing.place, message), final=final)
        if hearing.cut_ms is None:
            return keep
        low, cut = hearing.cut_ms
        heard = heard_of(hearing.place, message)
        ends = [at.start + word.end - word.start for at, word in zip(heard, message.words, strict=True)]
        # A word that begins at the overlap's beginning may lie before it: then the later span has only its clip.
        cuts = [i for i in keep if heard[i].start >= low + JITTER_MS and ends[i] >= cut - CUT_EDGE_MS]
        earlier = self._on_cut if hearing is self._cutter else []
        whole = [i for i in keep if not earlier and (not cuts or i < cuts[0])]  # with it goes what follows it
        if final and len(whole) < len(keep):
            self._cutter, self._on_cut = hearing, earlier + [known_open(heard[i]) for i in keep if i not in whole]
        return whole

    def _known(self, hearing: Hearing, from_ms: int) -> list[Known]:
        """Final words that a session which hears from there on may say again; then what was heard and is not final."""
        words = self._final_words()
        spans: dict[int, tuple[int, int]] = {}
        for word in words:
            spans[word.turn] = (spans.get(word.turn, (word.heard.start, 0))[0], word.heard.start)
        known: list[Known] = []
        for i in range(len(words) - 1, -1, -1):
            word = words[i]
            # Spans share no audio, but where one was cut with an overlap.
            same = word.by.span is hearing.span or word.by.cut_ms is not None
            missed = self._missed(words, i, from_ms) if same else None
            if missed is None:
                clip = same and word.heard.start + longest_ms(word.heard.plain) >= from_ms and word.end >= from_ms
                if clip and any(later.missed == MISSED for later in known):
                    heard = word.heard._replace(latest=from_ms)
                    known.append(Known(*heard, word.turn, *spans[word.turn], CLIPPED))
                break
            known.append(Known(*word.heard, word.turn, *spans[word.turn], missed))
        known.reverse()
        sure = next((i for i, word in enumerate(known) if word.missed == MISSED), len(known))
        known[sure:] = [word._replace(missed=MISSED) for word in known[sure:]]  # the audio has no holes
        if known:
            left = [[word for word in self._on_cut if word.start >= from_ms - JITTER_MS]]
            for other, message in self._orphans:
                if other.order < hearing.order:
                    heard_by_it = heard_of(other.place, message)
                    left.append([known_open(heard_by_it[n]) for n in self._unsaid(other, message)])
            most: list[Known] = max(left, key=len)  # they heard the same
            known += most
        return known

    def _final_words(self) -> list[_FinalWord]:
        """The last minutes' final words, in order. Needed after a loss only, and made then."""
        words: list[_FinalWord] = []
        for turn, by, latest in self._finals:
            for i, word in enumerate(turn.words or ()):
                told = latest if i == 0 else None
                heard = Heard(plain_of(word.text), word.start_ms, word.start_ms if told is None else told)
                words.append(_FinalWord(heard, word.end_ms, told is not None, turn.index, by))
        return words[-_MOST_REMEMBERED:]

    def _missed(self, words: Sequence[_FinalWord], i: int, from_ms: int) -> float | None:
        """How hard it is to believe that a final word is not heard by who hears from there on; None: it cannot be heard."""
        word = words[i]
        if word.heard.start >= from_ms + JITTER_MS:
            return MISSED
        if word.first and min(word.heard.latest, word.end - SHORTEST_WORD_MS) >= from_ms:
            # Told before, but perhaps early: its voice says which. The word before it may last so long.
            first = start = word.heard.start - JITTER_MS
            if i > 0:
                before = words[i - 1].heard
                start = max(start, before.latest + longest_ms(before.plain))
            voiced = self._voiced(start, from_ms) if start < from_ms else None
            if voiced is not None and voiced >= SHORTEST_WORD_MS:
                return None
            return MISSED if voiced == 0 and start == first else PERHAPS
        if word.heard.start >= from_ms - TWICE_MS and word.end >= from_ms - JITTER_MS:
            return CLIPPED
        return None

    def _unsaid(self, hearing: Hearing, message: protocol.Turn, since: int | None = None) -> Sequence[int]:
        """Which words of an orphan nobody has said since: those behind the last final word of later sessions."""
        keep = self._new(hearing, message)
        later = [
            word
            for word in self._final_words()
            if word.by.order > hearing.order or (since is not None and word.turn >= since and word.by is not hearing)
        ]
        if not later or not keep:
            return keep
        heard = heard_of(hearing.place, message)
        pairs = align([Known(*word.heard, word.turn, 0, 0, MISSED) for word in later], heard)
        behind = pairs[-1][1] + 1 if pairs else 0
        last = max(word.heard.start for word in later)
        return [i for i in keep if i >= behind and heard[i].start > last + EDGE_MS]

    def _of(self, number: int | None) -> list[tuple[Hearing, protocol.Turn]]:
        return [orphan for orphan in self._orphans if number is None or orphan[0].order[0] == number]

    # Whose voice

    def _revised(self, hearing: Hearing, message: protocol.SpeakerRevision) -> list[Fact]:
        before: dict[int, Turn] = {}
        for revision in message.revisions:
            published = hearing.published.get(revision.turn_order)
            old = None if published is None else self.turns.get(published.number)
            if published is None or old is None:
                continue
            words = old.words or ()
            if len(revision.words) == published.of:
                labels = [revision.words[i].speaker for i in published.keep]
            else:
                by_word = {(hearing.place(word.start), word.text): word.speaker for word in revision.words}
                labels = [by_word.get((word.start_ms, word.text)) for word in words]
            # A label that is missing leaves what was known; one that is no letter takes it back.
            words = tuple(
                word if label is None else msgspec.structs.replace(word, speaker=self._speaker(label))
                for word, label in zip(words, labels, strict=True)
            )
            label = revision.speaker_label
            speaker = old.speaker if label is None else self._speaker(label)
            before.setdefault(old.index, old)
            self.turns[old.index] = msgspec.structs.replace(old, speaker=speaker, words=words)
        changed = tuple(self.turns[index] for index, old in sorted(before.items()) if self.turns[index] != old)
        return [Revised(changed)] if changed else []

    def _settle_waiting(self, hearing: Hearing) -> list[Fact]:
        message, hearing.waiting, hearing.waited = hearing.waiting, None, False
        return [] if message is None else self._say(hearing, message)


def _not_again(hearing: Hearing, known: list[Known], turn: Sequence[Heard], *, final: bool) -> list[int]:
    """Which words of a turn are new; what it has said again just before is compared once more, for its place is known better."""
    heard = [*hearing.again, *turn]
    pairs = align(known, heard, hearing.reheard_ms)
    before = len(hearing.again)
    keep = [i - before for i in new_words(known, heard, pairs, hearing.reheard_ms) if i >= before]
    if final:
        new = {before + i for i in keep}
        again = [i for i in range(len(heard)) if i not in new]
        hearing.again = [heard[i] for i in again[-_COMPARED_AGAIN:]]
        past = set(again[:-_COMPARED_AGAIN])
        last = max(word.start for word in known)
        del known[: max((i + 1 for i, j in pairs if j in past), default=0)]
        if turn[-1].start > last + REACH_MS or all(word.turn == OPEN for word in known):
            known.clear()
    return keep
