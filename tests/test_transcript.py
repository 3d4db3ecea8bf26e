"""A leg's turns across its sessions: every word that was said comes out final once, in order, whatever is lost in between."""

import heapq
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import resume
from gateway.call import Turn
from gateway.speech import protocol
from gateway.timeline import SAMPLES_PER_MS
from gateway.transcript import (
    OPEN,
    Fact,
    Heard,
    Hearing,
    Known,
    LegTranscript,
    Partial,
    Revised,
    Said,
    align,
    new_words,
)

END_MS: Final = 3000
"""The line stays quiet so long after the last word."""

law = settings(derandomize=True, deadline=None, max_examples=60)


# A script, and a service that hears it


class Spoken(NamedTuple):
    """A word of the script, in milliseconds on the call's clock."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Ears:
    """How a session hears: where it ends turns, when it tells them, how wrong its times are."""

    end_silence_ms: int = 640
    cap_ms: int = 10_000
    latency_ms: int = 400
    first_ms: int = 1000
    every_ms: int = 1000
    early_ms: tuple[int, ...] = ()
    """How early a turn's first word may be told, within the silence before it; the same for every hearing of it."""
    early_anew: bool = False
    """The same word is told early otherwise at each hearing."""
    clip: str | None = None
    """What is heard of a word on which the session begins, or ends."""


def anyhow(chance: random.Random, **known: object) -> Ears:
    """Some session's ears."""
    ears = Ears(
        end_silence_ms=chance.randint(400, 700),
        cap_ms=chance.choice((3000, 6000, 10_000)),
        latency_ms=chance.randint(50, 800),
        first_ms=chance.choice((300, 1000, 2000)),
        every_ms=chance.choice((600, 1000, 2500)),
    )
    return replace(ears, **known)  # type: ignore[arg-type]  # fields of Ears


def told_turn(
    order: int, words: Sequence[tuple[str, float, float]], *, final: bool, formatted: bool = True, **more: object
) -> protocol.Turn:
    """A turn as the service says it; times on the session's clock."""
    return protocol.Turn(
        turn_order=order,
        end_of_turn=final,
        turn_is_formatted=formatted,
        transcript=" ".join(text for text, _, _ in words),
        words=tuple(protocol.Word(float(start), float(end), text, 0.9) for text, start, end in words),
        **more,  # type: ignore[arg-type]  # fields of a turn
    )


Message = protocol.Turn | protocol.SpeechStarted


def says(
    script: Sequence[Spoken], ears: Ears, from_ms: int, until_ms: int, chance: random.Random
) -> list[tuple[int, Message]]:
    """What a session says of the audio between two times, and when, on the call's clock."""
    heard: list[tuple[int, Spoken]] = []
    for number, word in enumerate(script):
        if from_ms <= word.start and word.end <= until_ms:
            heard.append((number, word))
        elif ears.clip is not None and word.end > from_ms + 40 and word.start < until_ms - 40:
            heard.append((number, Spoken(ears.clip, max(word.start, from_ms + 10), min(word.end, until_ms))))
    turns: list[list[tuple[int, Spoken]]] = []
    for number, word in heard:
        last = turns[-1] if turns else None
        if (
            last is not None
            and word.start - last[-1][1].end < ears.end_silence_ms
            and word.end - last[0][1].start <= ears.cap_ms
        ):
            last.append((number, word))
        else:
            turns.append([(number, word)])
    messages: list[tuple[int, Message]] = []
    for order, turn in enumerate(turns):
        told: list[tuple[str, float, float]] = []
        for place, (number, word) in enumerate(turn):
            start = word.start + chance.randint(-60, 60)
            if place == 0 and ears.early_ms:
                silence = word.start - (script[number - 1].end if number else 0)
                early = (chance if ears.early_anew else random.Random(number)).choice(ears.early_ms)
                start -= max(0, min(early, silence))
            end = word.end + chance.randint(0, 60)
            told.append((word.text, max(0, start - from_ms), end - from_ms))
        first, last_word = turn[0][1], turn[-1][1]
        behind = turns[order + 1][0][1] if order + 1 < len(turns) else None
        ended = last_word.end + ears.end_silence_ms
        if behind is not None and behind.start - last_word.end < ears.end_silence_ms:
            ended = behind.end  # the cap
        ended = min(ended, until_ms) + ears.latency_ms
        at = first.start + ears.first_ms + ears.latency_ms
        began = False
        while at < ended:
            so_far = [told[i] for i, (_, word) in enumerate(turn) if word.end <= at - ears.latency_ms]
            if so_far and not began:
                began = True
                messages.append((at, protocol.SpeechStarted(so_far[0][1])))
            if so_far:
                messages.append((at, told_turn(order, so_far, final=False)))
            at += ears.every_ms
        text, start, end = told[-1]
        told[-1] = (text, start, end + chance.randint(0, 1300))
        messages.append((ended, told_turn(order, told, final=True)))
    return sorted(messages, key=lambda said: said[0])


@dataclass(frozen=True)
class Stretch:
    """A span of audio: heard from, to; cut there by a rotation that is heard again from `overlap_ms` on."""

    from_ms: int
    until_ms: int
    overlap_ms: int | None = None


class Line:
    """A leg that hears a script: loses sessions, begins others where the gateway would, rotates."""

    def __init__(self, script: Sequence[Spoken], chance: random.Random, *, voiced: bool = False) -> None:
        self.script = script
        self.chance = chance
        self.facts: list[Fact] = []
        self.transcript = LegTranscript("inbound", 0, self.voiced) if voiced else LegTranscript("inbound")
        self.ears: dict[str, object] = {}

    def voiced(self, from_ms: int, to_ms: int) -> int:
        return sum(max(0, min(word.end, to_ms) - max(word.start, from_ms)) for word in self.script)

    def read(self, at: int, size: int) -> tuple[int, bytes]:
        """The line's sound, as `AudioBuffer.read`."""
        sound = bytearray(b"\xff" * size)
        for word in self.script:
            begin, end = max(0, word.start * SAMPLES_PER_MS - at), min(size, word.end * SAMPLES_PER_MS - at)
            if begin < end:
                sound[begin:end] = b"\x10\x90" * ((end - begin) // 2) + b"\x10" * ((end - begin) % 2)
        return at, bytes(sound)

    def after_loss(self, began_ms: int, open_ms: int | None, lost_ms: int) -> int:
        last_ms = self.transcript.heard_to_ms
        position = resume.after_loss(
            began=began_ms * SAMPLES_PER_MS,
            open_from=None if open_ms is None else open_ms * SAMPLES_PER_MS,
            sure=lost_ms * SAMPLES_PER_MS,
            last_word=None if last_ms is None else last_ms * SAMPLES_PER_MS,
            read=self.read,
            encoding="PCMU",
        )
        return position // SAMPLES_PER_MS

    def stretches(self, cuts: Sequence[int]) -> list[Stretch]:
        """Spans between rotations; every other one waits for a pause and finds it."""
        end = self.script[-1].end + END_MS
        made: list[Stretch] = []
        start = 0
        for n, cut in enumerate(cuts):
            at = max(cut, start + 2000)
            if n % 2:
                at = next((word.end for word in self.script if word.end >= at), end)
            if at >= end:
                break
            if n % 2:
                made.append(Stretch(start, at))
                start = at
            else:
                position = resume.before_cut(at * SAMPLES_PER_MS, start * SAMPLES_PER_MS, self.read, "PCMU")
                made.append(Stretch(start, at, position // SAMPLES_PER_MS))
                start = position // SAMPLES_PER_MS
        return [*made, Stretch(start, end)]

    def hear(self, losses: Sequence[int], cuts: Sequence[int] = (), **ears: object) -> list[str]:
        """Hear it all; what became final. Losses and cuts are times on the call's clock."""
        self.ears = ears
        stretches = self.stretches(cuts)
        for number in range(len(stretches)):
            self.transcript.span(number)
        waiting: list[tuple[int, int, Iterator[int]]] = []
        for number, stretch in enumerate(stretches):
            again = number > 0 and stretches[number - 1].overlap_ms is not None
            mine = [loss for loss in losses if stretch.from_ms <= loss < stretch.until_ms + 1000]
            late = self.chance.choice((0, 0, 500, 5000))
            heapq.heappush(waiting, (stretch.from_ms, number, self.hear_span(number, stretch, mine, late, again=again)))
        while waiting:
            now, number, steps = heapq.heappop(waiting)
            if (then := next(steps, None)) is not None:
                heapq.heappush(waiting, (max(now, then), number, steps))
        return self.said()

    def said(self) -> list[str]:
        return [word.text for turn in finals(self.facts) for word in turn.words or ()]

    def hear_span(
        self, number: int, stretch: Stretch, losses: Sequence[int], late_ms: int, *, again: bool
    ) -> Iterator[int]:
        """One session after another; yields when, by the wall, what comes next happens."""
        transcript = self.transcript
        from_ms = stretch.from_ms
        for n, loss in enumerate([*losses, None]):
            at = stretch.until_ms if loss is None else max(loss, from_ms)
            yield from_ms + late_ms
            offset = from_ms
            hearing = transcript.hearing(
                (number, n),
                f"{number}.{n}",
                lambda ms, offset=offset: offset + round(ms),  # type: ignore[misc]  # its default binds it
                reheard_ms=from_ms if again else None,
            )
            for when, message in says(
                self.script, anyhow(self.chance, **self.ears), from_ms, stretch.until_ms, self.chance
            ):
                if loss is not None and when > at:
                    break
                yield when + late_ms
                self.cut(hearing, stretch, when)
                if isinstance(message, protocol.Turn):
                    self.facts += transcript.turn(hearing, message)
                else:
                    transcript.started(hearing, message)
            yield at + late_ms
            self.cut(hearing, stretch, at)
            open_ms = hearing.open_from_ms
            self.facts += transcript.over(hearing)
            if loss is None:
                transcript.disown(number)
                break
            from_ms = min(self.after_loss(from_ms, open_ms, min(at, stretch.until_ms)), stretch.until_ms)
            again = True
        self.facts += transcript.adopt(number)
        self.facts += transcript.span_over(number)

    @staticmethod
    def cut(hearing: Hearing, stretch: Stretch, now: int) -> None:
        if stretch.overlap_ms is not None and now >= stretch.until_ms:
            hearing.cut_ms = (stretch.overlap_ms, stretch.until_ms)


def finals(facts: Sequence[Fact]) -> list[Turn]:
    return [fact.turn for fact in facts if isinstance(fact, Said)]


def check(facts: Sequence[Fact]) -> None:
    """What holds of all that is ever published."""
    final = 0
    shown: Turn | None = None
    for fact in facts:
        if isinstance(fact, Revised):
            continue
        turn = fact.turn
        assert turn.id == f"inbound-{turn.index}"
        assert turn.index == final  # so no partial comes after its final, and no number is left out
        assert all(word.start_ms <= word.end_ms for word in turn.words or ())
        if isinstance(fact, Said):
            assert turn.text
            final += 1
            shown = None
        else:
            assert turn.text or shown is not None, "nothing to withdraw"
            shown = turn if turn.text else None
    assert shown is None, "a partial is left on the screen"


gaps = st.one_of(st.integers(80, 250), st.integers(250, 600), st.integers(700, 2500))
lengths = st.integers(180, 400)


@st.composite
def scripts(
    draw: st.DrawFn, texts: Sequence[str] = ("five", "six", "oh"), gaps: st.SearchStrategy[int] = gaps
) -> list[Spoken]:
    """Words, many of them several times running."""
    at = draw(st.integers(300, 3000))
    script: list[Spoken] = []
    for text, times in draw(
        st.lists(st.tuples(st.sampled_from(texts), st.sampled_from((1, 1, 2, 3, 4))), min_size=1, max_size=8)
    ):
        for _ in range(times):
            length = draw(lengths)
            script.append(Spoken(text, at, at + length))
            at += length + draw(gaps)
    return script


places = st.lists(st.integers(0, 1100), min_size=1, max_size=4)
"""Where something happens, in thousandths of the script."""
seeds = st.integers(0, 2**32)
EARLY: Final = (0, 0, 200, 600, 1000)


def at(script: Sequence[Spoken], thousandths: Sequence[int]) -> list[int]:
    return [share * script[-1].end // 1000 for share in thousandths]


def texts(script: Sequence[Spoken]) -> list[str]:
    return [word.text for word in script]


# Laws


@law
@given(scripts(), places, seeds)
def test_lost_sessions_lose_no_word(script: list[Spoken], losses: list[int], seed: int) -> None:
    """However often the session is lost, every word comes out once and in order, the same one many times running too."""
    line = Line(script, random.Random(seed))
    assert texts(script) == line.hear(at(script, losses), early_ms=EARLY)
    check(line.facts)


@law
@given(scripts(("five",), st.one_of(st.integers(700, 1500), st.integers(700, 1500), gaps)), places, seeds)
def test_turns_of_one_word(script: list[Spoken], losses: list[int], seed: int) -> None:
    """Digits said one by one, each a turn of its own and all the same, are counted right."""
    line = Line(script, random.Random(seed), voiced=True)
    assert texts(script) == line.hear(at(script, losses), early_ms=EARLY)
    check(line.facts)


@law
@given(scripts(), places, seeds)
def test_losses_out_of_order(script: list[Spoken], losses: list[int], seed: int) -> None:
    """A session that is lost while it still hears again what was heard before loses nothing either."""
    line = Line(script, random.Random(seed))
    assert texts(script) == line.hear(sorted(at(script, losses), reverse=True), early_ms=EARLY)
    check(line.facts)


@law
@given(scripts(), places, seeds)
def test_clips_are_not_published(script: list[Spoken], losses: list[int], seed: int) -> None:
    """A word on which a replay begins is heard as something else: that is never said."""
    line = Line(script, random.Random(seed))
    assert texts(script) == line.hear(at(script, losses), early_ms=EARLY, clip="uff")


@law
@given(
    scripts(),
    st.lists(st.integers(0, 1100), max_size=3),
    st.lists(st.integers(50, 1000), min_size=1, max_size=4),
    seeds,
)
def test_rotation_loses_no_word(script: list[Spoken], losses: list[int], cuts: list[int], seed: int) -> None:
    """Sessions that relay each other, at a pause or through a word, two alive at once, neither lose nor double."""
    line = Line(script, random.Random(seed), voiced=True)
    assert texts(script) == line.hear(at(script, losses), sorted(at(script, cuts)), early_ms=EARLY)
    check(line.facts)
    assert [turn.session_id for turn in finals(line.facts)] == sorted(turn.session_id for turn in finals(line.facts))


@law
@given(scripts(), st.lists(st.integers(50, 1000), min_size=1, max_size=4), seeds)
def test_words_on_a_cut_are_the_later_ones(script: list[Spoken], cuts: list[int], seed: int) -> None:
    """A word through which audio is cut is heard wrong by the session that ends, and right by the one that goes on."""
    line = Line(script, random.Random(seed))
    assert texts(script) == line.hear([], sorted(at(script, cuts)), clip="uff")


@law
@given(scripts(), places, st.lists(st.integers(50, 1000), max_size=4), seeds)
def test_times_told_anew(script: list[Spoken], losses: list[int], cuts: list[int], seed: int) -> None:
    """Different words are recognised however early a turn's first one is told at each hearing."""
    script = [word._replace(text=f"word{number}") for number, word in enumerate(script)]
    line = Line(script, random.Random(seed))
    said = line.hear(at(script, losses), sorted(at(script, cuts)), early_ms=range(0, 1001, 50), early_anew=True)
    assert texts(script) == said
    check(line.facts)


@law
@given(scripts(), places, seeds)
def test_words_lie_where_they_were_said(script: list[Spoken], losses: list[int], seed: int) -> None:
    """On the call's clock, whichever session heard them: within 100 ms, as far as the service tells times right."""
    line = Line(script, random.Random(seed))
    line.hear(at(script, losses))
    words = [word for turn in finals(line.facts) for word in turn.words or ()]
    assert [abs(word.start_ms - spoken.start) <= 100 for word, spoken in zip(words, script, strict=True)] == [
        True
    ] * len(script)


@pytest.mark.slow
@pytest.mark.parametrize("early_anew", [False, True])
def test_many_scripts(early_anew: bool) -> None:
    """Of thousands of scripts made hard, hardly one loses or doubles a word, even where each hearing tells times otherwise."""
    wrong = 0
    for seed in range(4000):
        chance = random.Random(seed)
        script: list[Spoken] = []
        start = chance.randint(300, 3000)
        for _ in range(chance.randint(4, 24)):
            length = chance.randint(180, 400)
            script.append(Spoken(chance.choice(("five", "five", "six")), start, start + length))
            start += length + chance.choice((chance.randint(80, 250), chance.randint(700, 1500)))
        losses = at(script, [chance.randint(0, 1100) for _ in range(chance.randint(1, 4))])
        line = Line(script, chance, voiced=True)
        said = line.hear(
            losses,
            sorted(at(script, [chance.randint(50, 1000) for _ in range(2)])),
            early_ms=EARLY,
            early_anew=early_anew,
        )
        check(line.facts)
        wrong += said != texts(script)
    assert wrong <= (16 if early_anew else 8)
