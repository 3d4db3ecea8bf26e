"""A leg's turns across its sessions: every word that was said comes out final once, in order, whatever is lost in between."""

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, SupportsIndex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import resume
from gateway.call import Turn
from gateway.rehearing import OPEN, Heard, Known, align, new_words
from gateway.speech import protocol
from gateway.timeline import SAMPLES_PER_MS
from gateway.transcript import Fact, Hearing, LegTranscript, Partial, Revised, Said

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
    order: int, words: Sequence[tuple[str, int, int]], *, final: bool, formatted: bool = True, **more: object
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
        told: list[tuple[str, int, int]] = []
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
    line = Line(script, random.Random(seed), voiced=True)
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
    line = Line(script, random.Random(seed), voiced=True)
    assert texts(script) == line.hear(sorted(at(script, losses), reverse=True), early_ms=EARLY)
    check(line.facts)


@law
@given(scripts(), places, seeds)
def test_clips_are_not_published(script: list[Spoken], losses: list[int], seed: int) -> None:
    """A word on which a replay begins is heard as something else: that is never said."""
    line = Line(script, random.Random(seed), voiced=True)
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
    line = Line(script, random.Random(seed), voiced=True)
    assert texts(script) == line.hear([], sorted(at(script, cuts)), clip="uff")


@law
@given(scripts(), places, st.lists(st.integers(50, 1000), max_size=4), seeds)
def test_times_told_anew(script: list[Spoken], losses: list[int], cuts: list[int], seed: int) -> None:
    """Different words are recognised however early a turn's first one is told at each hearing."""
    script = [word._replace(text=f"word{number}") for number, word in enumerate(script)]
    line = Line(script, random.Random(seed), voiced=True)
    said = line.hear(at(script, losses), sorted(at(script, cuts)), early_ms=range(0, 1001, 50), early_anew=True)
    assert texts(script) == said
    check(line.facts)


@law
@given(scripts(), places, seeds)
def test_words_lie_where_they_were_said(script: list[Spoken], losses: list[int], seed: int) -> None:
    """On the call's clock, whichever session heard them: within 100 ms, as far as the service tells times right."""
    line = Line(script, random.Random(seed), voiced=True)
    line.hear(at(script, losses))
    words = [word for turn in finals(line.facts) for word in turn.words or ()]
    assert [abs(word.start_ms - spoken.start) <= 100 for word, spoken in zip(words, script, strict=True)] == [
        True
    ] * len(script)


# One thing at a time


class Talk:
    """A transcript whose sessions hear from 0 on the call's clock, unless said otherwise."""

    def __init__(self) -> None:
        self.transcript = LegTranscript("outbound")
        self.facts: list[Fact] = []

    def session(
        self,
        order: tuple[int, int] = (0, 0),
        offset: int = 0,
        *,
        again: bool = False,
        formatted: bool = False,
        languages: bool = False,
    ) -> Hearing:
        if order[1] == 0:
            self.transcript.span(order[0])
        return self.transcript.hearing(
            order,
            f"session-{order[0]}.{order[1]}",
            lambda ms: offset + round(ms),
            formatted=formatted,
            languages=languages,
            reheard_ms=offset if again else None,
        )

    def say(
        self, hearing: Hearing, order: int, words: str, *, final: bool = True, formatted: bool = True, **more: object
    ) -> list[Fact]:
        """`words` are "text@start", in milliseconds of the session's audio, 200 long."""
        told = [
            (text, int(start), int(start) + 200) for text, _, start in (word.partition("@") for word in words.split())
        ]
        facts = self.transcript.turn(hearing, told_turn(order, told, final=final, formatted=formatted, **more))
        self.facts += facts
        return facts

    def partial(self, hearing: Hearing, order: int, words: str) -> list[Fact]:
        return self.say(hearing, order, words, final=False)

    def over(self, hearing: Hearing) -> list[Fact]:
        facts = self.transcript.over(hearing)
        self.facts += facts
        return facts


def shown(facts: Sequence[Fact]) -> list[str]:
    """Facts in short: finals as `n:text`, partials as `n~text`, revisions as `n*speaker`."""
    told: list[str] = []
    for fact in facts:
        match fact:
            case Said(turn):
                told.append(f"{turn.index}:{turn.text}")
            case Partial(turn):
                told.append(f"{turn.index}~{turn.text}")
            case Revised(turns):
                told += [f"{turn.index}*{turn.speaker}" for turn in turns]
    return told


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_turn_has_what_the_contract_promises(talk: Talk) -> None:
    """Id, index, text, times on the call's clock, speakers of turn and words, mean confidence, language, session."""
    hearing = talk.session(offset=5000, languages=True)
    message = protocol.Turn(
        turn_order=0,
        end_of_turn=True,
        transcript="Good morning.",
        words=(protocol.Word(100.4, 300.0, "Good", 0.5, "A"), protocol.Word(310.0, 900.0, "morning.", 1.0, "PENDING")),
        speaker_label="B",
        language_code="en",
    )
    [fact] = talk.transcript.turn(hearing, message)
    assert isinstance(fact, Said)
    turn = fact.turn
    assert (turn.id, turn.index, turn.text) == ("outbound-0", 0, "Good morning.")
    assert (turn.start_ms, turn.end_ms, turn.session_id) == (5100, 5900, "session-0.0")
    assert (turn.speaker, turn.confidence, turn.language) == ("outbound:B", 0.75, "en")
    assert turn.words is not None
    assert [(word.text, word.start_ms, word.end_ms, word.speaker) for word in turn.words] == [
        ("Good", 5100, 5300, "outbound:A"),
        ("morning.", 5310, 5900, None),
    ]


@pytest.mark.parametrize("label", ["PENDING", "UNKNOWN", "", "a", "AB", "Ä", "1", None])
def test_label_that_is_no_capital_letter_is_null(talk: Talk, label: str | None) -> None:
    """Only a single letter from A to Z names a voice."""
    [fact] = talk.say(talk.session(), 0, "yes@100", speaker_label=label)
    assert isinstance(fact, Said)
    assert fact.turn.speaker is None


def test_language_is_null_unless_it_was_asked_for(talk: Talk) -> None:
    """A code that the service says unasked is not passed on, nor a confidence made up."""
    message = protocol.Turn(0, end_of_turn=True, words=(protocol.Word(0, 9, "hm"),), language_code="en")
    [fact] = talk.transcript.turn(talk.session(), message)
    assert isinstance(fact, Said)
    assert (fact.turn.language, fact.turn.confidence, fact.turn.text) == (None, None, "hm")


def test_word_end_does_not_cross_a_jump() -> None:
    """A word that is told to end too late, behind a jump of the clock, ends by its length."""
    transcript = LegTranscript("inbound")
    transcript.span(0)
    hearing = transcript.hearing((0, 0), "s", lambda ms: round(ms) if ms < 1000 else round(ms) + 60_000)
    [fact] = transcript.turn(hearing, told_turn(0, [("bye", 800, 1900)], final=True))
    assert isinstance(fact, Said)
    assert (fact.turn.start_ms, fact.turn.end_ms) == (800, 1900)


def test_partials_replace_each_other_until_the_final(talk: Talk) -> None:
    """All carry the turn's id, and the words as heard now."""
    hearing = talk.session()
    talk.partial(hearing, 0, "for@100")
    talk.partial(hearing, 0, "forty@100 two@400")
    talk.say(hearing, 0, "forty-two@100")
    talk.partial(hearing, 1, "and@2000")
    assert shown(talk.facts) == ["0~for", "0~forty two", "0:forty-two", "1~and"]


def test_empty_final_withdraws_the_partial_and_takes_no_number(talk: Talk) -> None:
    """What was shown is taken back; an empty final after nothing is nothing."""
    hearing = talk.session()
    talk.partial(hearing, 0, "uh@100")
    talk.say(hearing, 0, "")
    talk.say(hearing, 1, "")
    talk.say(hearing, 2, "yes@3000")
    assert shown(talk.facts) == ["0~uh", "0~", "0:yes"]


def test_partial_that_comes_to_nothing_is_withdrawn(talk: Talk) -> None:
    """The service hears a noise again, and no word in it: no turn is open then."""
    hearing = talk.session()
    talk.partial(hearing, 0, "uh@100")
    talk.partial(hearing, 0, "")
    talk.partial(hearing, 0, "")
    assert shown(talk.facts) == ["0~uh", "0~"]
    assert hearing.open_from_ms is None


def test_what_is_said_twice_is_said_once(talk: Talk) -> None:
    """A second final of a turn, and a partial that comes after it, are nothing."""
    hearing = talk.session()
    talk.say(hearing, 0, "yes@100")
    talk.say(hearing, 0, "yes@100")
    talk.partial(hearing, 0, "yes@100")
    talk.over(hearing)
    talk.say(hearing, 1, "late@500")
    assert shown(talk.facts) == ["0:yes"]


def test_text_without_words_is_said(talk: Talk) -> None:
    """Words that cannot be read cost the turn its times, not its text; until it is final its place is the last word's."""
    hearing = talk.session()
    talk.say(hearing, 0, "yes@100")
    talk.transcript.turn(hearing, protocol.Turn(1, transcript="no"))
    assert hearing.open_from_ms == 100
    [fact] = talk.transcript.turn(hearing, protocol.Turn(1, end_of_turn=True, transcript=" no "))
    assert isinstance(fact, Said)
    assert (fact.turn.text, fact.turn.start_ms, fact.turn.end_ms, fact.turn.words) == ("no", 100, 100, ())


def test_open_turn_begins_where_its_first_word_or_the_announcement_does(talk: Talk) -> None:
    """That is where a successor must hear from; None where no turn is open."""
    hearing = talk.session(offset=1000)
    began = [hearing.open_from_ms]
    for started in (None, 200):
        talk.transcript.started(hearing, protocol.SpeechStarted(started))
        began.append(hearing.open_from_ms)
    talk.partial(hearing, 0, "well@300")
    began.append(hearing.open_from_ms)
    talk.say(hearing, 0, "well@300")
    began.append(hearing.open_from_ms)
    assert began == [None, None, 1200, 1300, None]


# Formatted turns


def test_formatted_final_takes_the_place_of_the_unformatted(talk: Talk) -> None:
    """US models say a turn twice; the turn is open until the second, and final once."""
    hearing = talk.session(formatted=True)
    talk.partial(hearing, 0, "good@100")
    assert talk.say(hearing, 0, "good@100 day@400", formatted=False) == []
    assert hearing.open_from_ms == 100
    talk.partial(hearing, 0, "good@100 day@400")
    talk.say(hearing, 0, "Good@100 day.@400")
    talk.say(hearing, 0, "Good@100 day.@400")
    assert shown(talk.facts) == ["0~good", "0:Good day."]


def test_unformatted_final_is_said_where_no_formatted_one_comes(talk: Talk) -> None:
    """With the next turn's message, with the second heartbeat, with a revision that names it, or at the session's end."""
    hearing = talk.session(formatted=True)
    talk.say(hearing, 0, "one@100", formatted=False)
    assert shown(talk.partial(hearing, 1, "two@2000")) == ["0:one", "1~two"]
    talk.say(hearing, 1, "two@2000", formatted=False)
    assert talk.transcript.tick(hearing) == []
    assert shown(talk.transcript.tick(hearing)) == ["1:two"]
    assert talk.transcript.tick(hearing) == []
    assert talk.say(hearing, 1, "Two.@2000") == []
    talk.say(hearing, 2, "three@4000", formatted=False)
    other = protocol.SpeakerRevision((protocol.Revision(0, "B"),))
    assert shown(talk.transcript.revision(hearing, other)) == ["0*outbound:B"]
    named = protocol.SpeakerRevision((protocol.Revision(2, "A"),))
    assert shown(talk.transcript.revision(hearing, named)) == ["2:three", "2*outbound:A"]
    talk.say(hearing, 3, "four@6000", formatted=False)
    assert shown(talk.over(hearing)) == ["3:four"]


def test_each_turn_waits_for_its_own_form(talk: Talk) -> None:
    """A heartbeat that one turn has waited for does not count for the next."""
    hearing = talk.session(formatted=True)
    talk.say(hearing, 0, "one@100", formatted=False)
    talk.transcript.tick(hearing)
    talk.say(hearing, 1, "two@2000", formatted=False)
    assert talk.transcript.tick(hearing) == []
    assert shown(talk.transcript.tick(hearing)) == ["1:two"]


# Holes


def test_turn_that_is_passed_over_is_not_lost(talk: Talk) -> None:
    """A later turn became final first: nothing more is taken, and whoever hears again hears from the open one."""
    hearing = talk.session()
    talk.partial(hearing, 0, "one@1000 two@1300")
    assert talk.say(hearing, 1, "three@3000") == []
    assert hearing.hole
    assert talk.say(hearing, 0, "one@1000 two@1300") == []
    assert hearing.open_from_ms == 1000
    assert shown(talk.over(hearing)) == ["0~"]
    again = talk.session((0, 1), 500, again=True)
    talk.say(again, 0, "one@500 two@800")
    talk.say(again, 1, "three@2500")
    assert shown(talk.facts) == ["0~one two", "0~", "0:one two", "1:three"]


def test_turns_behind_a_hole_are_final_where_nobody_hears_them_again(talk: Talk) -> None:
    """Both, in order."""
    hearing = talk.session()
    talk.partial(hearing, 0, "one@1000")
    talk.partial(hearing, 1, "two@3000")
    talk.say(hearing, 1, "two@3000")
    talk.over(hearing)
    assert shown(talk.transcript.adopt()) == ["0:one", "1:two"]
    assert talk.transcript.adopt() == []


def test_turn_of_which_nothing_was_heard_makes_no_hole(talk: Talk) -> None:
    """An empty partial that never became final is no word lost."""
    hearing = talk.session()
    talk.partial(hearing, 0, "")
    talk.say(hearing, 1, "yes@3000")
    assert not hearing.hole
    assert shown(talk.facts) == ["0:yes"]


def test_partial_of_a_later_turn_waits_for_the_earlier_ones_end(talk: Talk) -> None:
    """One turn at a time is on the screen, so that ids do not change hands."""
    hearing = talk.session()
    talk.partial(hearing, 0, "one@1000")
    talk.partial(hearing, 1, "two@3000")
    talk.say(hearing, 0, "one@1000")
    talk.partial(hearing, 1, "two@3000 three@3300")
    assert shown(talk.facts) == ["0~one", "0:one", "1~two three"]


# Sessions in order


def test_later_session_waits_for_the_earlier_ones_end(talk: Talk) -> None:
    """What it says is held, its newest partial only; then it comes in order."""
    first, second = talk.session((0, 0)), talk.session((1, 0), 5000)
    talk.partial(second, 0, "four@100")
    talk.partial(second, 0, "four@100 five@400")
    talk.say(second, 0, "four@100 five@400")
    talk.partial(second, 1, "six@2000")
    talk.say(first, 0, "one@1000")
    talk.partial(first, 1, "two@3000")
    talk.say(first, 1, "two@3000 three@3300")
    assert shown(talk.facts) == ["0:one", "1~two", "1:two three"]
    assert talk.over(first) == []
    assert shown(talk.transcript.span_over(0)) == ["2:four five", "3~six"]
    assert shown(talk.say(second, 1, "six@2000")) == ["3:six"]


def test_revision_of_held_turns_is_held_with_them(talk: Talk) -> None:
    """It names the numbers they got at last."""
    first, second = talk.session((0, 0)), talk.session((1, 0), 5000)
    talk.say(second, 0, "three@100")
    assert talk.transcript.revision(second, protocol.SpeakerRevision((protocol.Revision(0, "B"),))) == []
    talk.partial(second, 1, "four@2000")
    talk.over(second)
    talk.say(first, 0, "one@1000")
    talk.over(first)
    assert shown(talk.transcript.span_over(0)) == ["1:three", "1*outbound:B"]


def test_three_sessions_wait_for_one_another(talk: Talk) -> None:
    """The one in the middle holds the last, even after the first is done."""
    talk.session((0, 0))
    first, second, third = talk.session((0, 1)), talk.session((1, 0), 5000), talk.session((2, 0), 9000)
    talk.say(third, 0, "three@100")
    talk.over(third)
    talk.transcript.span_over(2)
    talk.say(second, 0, "two@100")
    talk.over(talk.transcript._hearings[0, 0])
    talk.say(first, 0, "one@1000")
    talk.over(first)
    assert shown(talk.transcript.span_over(0)) == ["1:two"]
    talk.over(second)
    assert shown(talk.transcript.span_over(1)) == ["2:three"]
    assert talk.transcript._hearings == {}
    assert talk.transcript._spans == {}


def test_span_without_a_session_holds_the_next_until_it_is_over(talk: Talk) -> None:
    """Its audio is still to be heard; once nobody will, what follows it is let out."""
    talk.transcript.span(0)
    talk.transcript.span(1)
    second = talk.session((2, 0), 5000)
    talk.say(second, 0, "two@100")
    assert talk.transcript.span_over(1) == []
    assert shown(talk.transcript.span_over(0)) == ["0:two"]


def test_session_that_begins_after_its_span_is_over_holds_nobody(talk: Talk) -> None:
    """It was given up while it was dialled: what it says still has its place, and only its own end is waited for."""
    talk.transcript.span(0)
    talk.transcript.span_over(0)
    late = talk.transcript.hearing((0, 0), "late", round)
    second = talk.session((1, 0), 5000)
    talk.say(second, 0, "two@100")
    assert shown(talk.over(late)) == ["0:two"]
    assert talk.transcript.span_over(0) == []


# Orphans


def test_open_turn_of_a_lost_session_is_withdrawn_and_heard_again(talk: Talk) -> None:
    """The next one says it; nothing is left to adopt."""
    first = talk.session()
    talk.partial(first, 0, "one@1000 two@1300")
    talk.over(first)
    second = talk.session((0, 1), 500, again=True)
    talk.partial(second, 0, "one@500")
    talk.say(second, 0, "one@500 two@800 three@1100")
    assert shown(talk.facts) == ["0~one two", "0~", "0~one", "0:one two three"]
    assert talk.transcript.adopt() == []


def test_open_turn_that_nobody_hears_again_is_final(talk: Talk) -> None:
    """What was heard of it is better than nothing; its words without times too."""
    first = talk.session()
    talk.partial(first, 0, "one@1000 two@1300")
    talk.over(first)
    assert shown(talk.transcript.adopt()) == ["0:one two"]
    second = talk.session((1, 0), 5000)
    talk.transcript.span_over(0)
    talk.transcript.turn(second, protocol.Turn(0, transcript="three"))
    talk.over(second)
    assert shown(talk.transcript.adopt()) == ["1:three"]


def test_what_nobody_said_again_is_said_from_where_the_others_end(talk: Talk) -> None:
    """The next session heard half of it before it was lost, too: the rest is the first one's."""
    first = talk.session()
    talk.partial(first, 0, "one@1000 two@1300 three@1600 four@1900")
    talk.over(first)
    second = talk.session((0, 1), 500, again=True)
    talk.say(second, 0, "one@500 two@800")
    talk.over(second)
    assert shown(talk.transcript.adopt()) == ["1:three four"]


def test_two_orphans_of_one_turn_are_said_once(talk: Talk) -> None:
    """Two sessions were lost in it: the second adds only what the first had not heard."""
    first = talk.session()
    talk.partial(first, 0, "one@1000 two@1300 three@1600")
    talk.over(first)
    second = talk.session((0, 1), 500, again=True)
    talk.partial(second, 0, "one@500 two@800 three@1100 four@1400")
    talk.over(second)
    assert shown(talk.transcript.adopt()) == ["0:one two three", "1:four"]


def test_orphan_that_was_said_again_is_not_adopted(talk: Talk) -> None:
    """Not even where the second time it was heard otherwise."""
    first = talk.session()
    talk.partial(first, 0, "won@1000 too@1300")
    talk.over(first)
    second = talk.session((0, 1), 500, again=True)
    talk.say(second, 0, "one@500 two@800")
    talk.over(second)
    assert talk.transcript.adopt() == []


def test_session_that_heard_to_the_end_disowns_what_it_did_not_say(talk: Talk) -> None:
    """A mishearing of the lost one is gone; but its own last turn, which the service never ended, is final."""
    first = talk.session()
    talk.partial(first, 0, "noise@1000")
    talk.over(first)
    second = talk.session((0, 1), 500, again=True)
    talk.partial(second, 0, "bye@9000")
    talk.over(second)
    talk.transcript.disown()
    assert shown(talk.transcript.adopt()) == ["0:bye"]


def test_spans_have_their_own_orphans(talk: Talk) -> None:
    """The end of one stretch decides nothing about another's lost turn."""
    first, second = talk.session((0, 0)), talk.session((1, 0), 5000)
    talk.partial(first, 0, "one@1000")
    talk.over(first)
    talk.session((0, 1), 500, again=True)
    talk.transcript.disown(1)
    assert talk.transcript.adopt(1) == []
    talk.transcript.disown(0)
    assert talk.transcript.adopt(0) == []
    talk.over(second)


# Revisions


def revised(talk: Talk, hearing: Hearing, *revisions: protocol.Revision) -> tuple[Turn, ...]:
    facts = talk.transcript.revision(hearing, protocol.SpeakerRevision(revisions))
    assert len(facts) <= 1
    return facts[0].turns if facts and isinstance(facts[0], Revised) else ()


def words_by(label: str | None, words: str) -> tuple[protocol.Word, ...]:
    told = (word.partition("@") for word in words.split())
    return tuple(protocol.Word(float(start), float(start) + 200, text, None, label) for text, _, start in told)


def test_revision_names_whole_turns_whose_speakers_changed(talk: Talk) -> None:
    """Of turns named twice the last word counts; unknown ones, unchanged ones and ones changed back are not named."""
    hearing = talk.session()
    for order in range(4):
        talk.say(hearing, order, f"word@{order * 2000}", speaker_label="A")
    turns = revised(
        talk,
        hearing,
        protocol.Revision(2, "C", words_by("D", "word@4000")),
        protocol.Revision(99, "B"),
        protocol.Revision(0, "B"),
        protocol.Revision(3, "B"),
        protocol.Revision(3, "A"),
        protocol.Revision(1, "A"),
        protocol.Revision(0, "UNKNOWN"),
    )
    assert [(turn.index, turn.text, turn.speaker) for turn in turns] == [(0, "word", None), (2, "word", "outbound:C")]
    assert [word.speaker for turn in turns for word in turn.words or ()] == [None, "outbound:D"]
    assert [talk.transcript.turns[turn.index] for turn in turns] == list(turns)
    assert revised(talk, hearing, protocol.Revision(1, None)) == ()


def test_revision_of_a_turn_that_was_partly_said_before(talk: Talk) -> None:
    """Only its own words are revised, each with its own label."""
    first = talk.session()
    talk.say(first, 0, "one@1000 two@1300")
    talk.over(first)
    second = talk.session((0, 1), 500, again=True)
    talk.say(second, 0, "one@500 two@800")
    talk.say(second, 1, "two@1800 three@2100", speaker_label="A")
    talk.say(second, 2, "four@4000 five@4300", speaker_label="A")
    assert shown(talk.facts) == ["0:one two", "1:two three", "2:four five"]
    labels = words_by("B", "two@1800") + words_by("C", "three@2100")
    [turn] = revised(talk, second, protocol.Revision(0, "Z"), protocol.Revision(1, "B", labels))
    assert [word.speaker for word in turn.words or ()] == ["outbound:B", "outbound:C"]
    [turn] = revised(talk, second, protocol.Revision(2, "A", words_by("D", "five@4300")))
    assert [word.speaker for word in turn.words or ()] == [None, "outbound:D"]


def test_revision_fits_the_words_that_were_kept(talk: Talk) -> None:
    """The service revises its whole turn; of it the gateway said the end."""
    first = talk.session()
    talk.say(first, 0, "one@1000")
    talk.over(first)
    second = talk.session((0, 1), 500, again=True)
    talk.say(second, 0, "one@500 two@800")
    labels = words_by("A", "one@500") + words_by("B", "two@800")
    [turn] = revised(talk, second, protocol.Revision(0, "B", labels))
    assert [(word.text, word.speaker) for word in turn.words or ()] == [("two", "outbound:B")]


def test_turns_of_an_ended_call_are_revised_no_more(talk: Talk) -> None:
    """They were told with `call.ended`; numbers run on."""
    hearing = talk.session()
    talk.say(hearing, 0, "one@1000")
    talk.transcript.forget()
    assert talk.transcript.turns == {}
    assert revised(talk, hearing, protocol.Revision(0, "B")) == ()
    assert shown(talk.say(hearing, 1, "two@3000")) == ["1:two"]


# What the leg asks


def test_remembered_turns_keep_their_numbers(talk: Talk) -> None:
    """After a crash the count goes on behind them, and all up to the last word counts as heard."""
    hearing = talk.session()
    talk.say(hearing, 0, "one@1000 two@1300")
    talk.transcript.turn(hearing, protocol.Turn(1, end_of_turn=True, transcript="three"))
    other = Talk()
    other.transcript.remember(list(talk.transcript.turns.values()))
    assert other.transcript.heard_to_ms == 1300
    assert shown(other.say(other.session(), 0, "four@100")) == ["2:four"]


@pytest.mark.parametrize(
    ("word", "told_end", "heard_end"),
    [("yes", 1180, 1180), ("yes", 2500, 1430), ("25", 9000, 1850), ("extraordinarily", 9000, 2000)],
)
def test_words_end_no_later_than_their_letters_take(word: str, told_end: int, heard_end: int) -> None:
    """The service's ends are up to 1.3 s too late: a voice behind so many letters is somebody's whom nobody heard."""
    transcript = LegTranscript("inbound")
    transcript.span(0)
    transcript.turn(transcript.hearing((0, 0), "s", round), told_turn(0, [(word, 1000, told_end)], final=True))
    assert (transcript.heard_to_ms, transcript.heard_end_ms) == (1000, heard_end)


# Words said again


def again(talk: Talk, finals: str, offset: int, said: str) -> list[str]:
    """What a session that hears from `offset` says of words, where others were final before. All on the call's clock."""
    first = talk.session()
    for order, turn in enumerate(finals.split(" | ")):
        talk.say(first, order, turn)
    talk.over(first)
    talk.facts.clear()
    second = talk.session((0, 1), offset, again=True)
    for order, turn in enumerate(said.split(" | ")):
        words = [word.partition("@") for word in turn.split()]
        talk.say(second, order, " ".join(f"{text}@{int(start) - offset}" for text, _, start in words))
    return [f"{word.text}@{word.start_ms}" for turn in finals_of(talk) for word in turn.words or ()]


def finals_of(talk: Talk) -> list[Turn]:
    return finals(talk.facts)


@pytest.mark.parametrize(
    ("finals", "offset", "said", "new"),
    [
        pytest.param("five@1000 five@1300", 900, "five@1040 five@1250 five@1600", ["five@1600"], id="a third five"),
        pytest.param("five@1000 five@1300", 1250, "five@1340 five@1600", ["five@1600"], id="begun between the two"),
        pytest.param("five@1000 five@1300", 1250, "five@1600", ["five@1600"], id="the second one clipped"),
        pytest.param("five@1000", 500, "five@1900", [], id="told early at first"),
        pytest.param("no@200 five@1900", 500, "five@1000", [], id="told early the second time"),
        pytest.param("no@200 five@1900", 500, "five@1000 | five@2300", ["five@2300"], id="and said again"),
        pytest.param("no@200 five@1900", 500, "five@1900 | five@1940", ["five@1940"], id="and again, told early"),
        pytest.param("Five,@1000 six.@1300", 500, "five@1000 six@1300 Seven@1600", ["Seven@1600"], id="written otherwise"),
        pytest.param("four@1000 tea@1300 two@1700", 500, "forty@1000 two@1700", [], id="two heard as one"),
        pytest.param("forty@1000 two@1700", 500, "four@1000 tea@1300 two@1700", [], id="one heard as two"),
        pytest.param("one@1000 two@1300", 500, "one@1000 too@1310 three@1600", ["three@1600"], id="the last heard otherwise"),
        pytest.param("one@1000 two@1300", 500, "one@1000 three@1600", ["three@1600"], id="the last not heard"),
        pytest.param("one@1000 two@1400", 1150, "uff@1160 two@1400 three@1700", ["three@1700"], id="a clip"),
        pytest.param("one@1000 two@1400", 1150, "one@1160 two@1400 three@1700", ["three@1700"], id="a clip heard right"),
        pytest.param("one@1000 | two@4000", 500, "one@1000 hm@2500 two@4000", ["hm@2500"], id="heard between two turns only now"),
        pytest.param("one@1000 | two@1400", 1150, "uff@1160 | two@1400 | three@1700", ["three@1700"], id="a clip, then a turn"),
        pytest.param("one@1000 two@1300", 5000, "one@5100 two@5400", ["one@5100", "two@5400"], id="long past"),
        pytest.param("one@1000", 1090, "one@1100", [], id="within 100 ms of its first hearing"),
        pytest.param("one@1000 | one@2000 two@2300", 1700, "one@2000 two@2300 two@2600", ["two@2600"], id="the turn before is past"),
    ],
)  # fmt: skip
def test_words_said_again(talk: Talk, finals: str, offset: int, said: str, new: list[str]) -> None:
    """By time and text, one to one and in order."""
    assert new == again(talk, finals, offset, said)


def test_voice_tells_a_word_before_from_a_word_behind() -> None:
    """A turn's only word was told before the replay begins: with a voice there it was said there, without one it is heard again."""
    for voiced, new in ((200, ["0:yes", "1:yes"]), (0, ["0:yes"]), (None, ["0:yes"])):
        talk = Talk()
        talk.transcript = LegTranscript("outbound", 0, lambda _from_ms, _to_ms, voiced=voiced: voiced)  # type: ignore[misc]
        first = talk.session()
        talk.transcript.turn(first, told_turn(0, [("yes", 1000, 2400)], final=True))
        talk.facts += [Said(talk.transcript.turns[0])]
        talk.over(first)
        second = talk.session((0, 1), 1500, again=True)
        talk.say(second, 0, "yes@200")
        assert shown(talk.facts) == new


def test_open_turn_of_the_lost_session_tells_which_word_is_heard() -> None:
    """Yes, and yes again: the second was open when the session was lost, so it is the one that is heard again."""
    talk = Talk()
    first = talk.session()
    talk.transcript.turn(first, told_turn(0, [("yes", 1000, 2600)], final=True))
    talk.partial(first, 1, "yes@2100")
    talk.over(first)
    second = talk.session((0, 1), 1400, again=True)
    talk.facts.clear()
    talk.say(second, 0, "yes@600 sir@1000")
    assert shown(talk.facts) == ["1:yes sir"]


def test_session_that_heard_everything_again_compares_no_more(talk: Talk) -> None:
    """Words of a later time are new, and cost nothing to tell."""
    assert again(talk, "five@1000", 500, "five@1000 | five@9000 | five@9900") == ["five@9000", "five@9900"]
    assert talk.transcript._hearings[0, 1].known == []


def test_long_replay_is_compared_piece_by_piece(talk: Talk) -> None:
    """Known words that were said again long ago are let go, and none is said twice for that."""
    turns = [" ".join(f"five@{turn * 5000 + word * 400}" for word in range(10)) for turn in range(6)]
    assert again(talk, " | ".join(turns), 0, " | ".join([*turns, "five@30000"])) == ["five@30000"]


def test_overlap_belongs_to_the_later_session(talk: Talk) -> None:
    """A word on the cut, and what the ending session says behind it, is left to the one that hears it whole."""
    first, second = talk.session((0, 0)), talk.session((1, 0), 3000)
    first.cut_ms = (3000, 4500)
    second.reheard_ms = 3000
    talk.say(first, 0, "one@2900 two@3200")
    talk.say(first, 1, "fif@4300")
    talk.say(first, 2, "uh@3900")
    talk.say(second, 0, "two@200 fifteen@1300 three@1900")
    talk.over(first)
    talk.facts += talk.transcript.span_over(0)
    assert shown(talk.facts) == ["0:one two", "1:fifteen three"]


def test_cut_holds_for_all_sessions_of_the_span(talk: Talk) -> None:
    """The ending session is lost before it said its last: who hears that again is cut at the same place."""
    first = talk.session((0, 0))
    first.cut_ms = (3000, 4500)
    talk.over(first)
    again = talk.session((0, 1), 2000, again=True)
    assert again.cut_ms == (3000, 4500)
    assert talk.say(again, 0, "fif@2300") == []


def test_spans_share_no_audio_without_an_overlap(talk: Talk) -> None:
    """The same word right before a cut and right behind it was said twice, whatever times are told."""
    first = talk.session((0, 0))
    talk.transcript.turn(first, told_turn(0, [("yes", 2700, 4000)], final=True))
    talk.over(first)
    talk.transcript.span_over(0)
    talk.over(talk.session((1, 0), 3000))
    second = talk.session((1, 1), 3000, again=True)
    assert shown(talk.say(second, 0, "yes@50")) == ["1:yes"]


words = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4000)), max_size=12)


@law
@given(words, words, st.integers(0, 12))
def test_pairs_are_one_to_one_and_in_order(
    first: list[tuple[str, int]], second: list[tuple[str, int]], open_: int
) -> None:
    """Whatever is compared: no word twice, none out of order, none further apart than times can be wrong; the rest is new."""
    known = [
        Known(
            text,
            start,
            start + 500,
            OPEN if n >= len(first) - open_ else n // 3,
            start,
            start + 400,
            0.4 if n >= len(first) - open_ else 1.0,
        )
        for n, (text, start) in enumerate(first)
    ]
    heard = [Heard(text, start, start) for text, start in second]
    pairs = align(known, heard, 0)
    assert pairs == sorted(set(pairs))
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    assert all(abs(known[i].start - heard[j].start) <= 1200 for i, j in pairs)
    if heard:
        new = new_words(known, heard, pairs, 0)
        assert new == sorted(set(new))
        assert set(new).isdisjoint(j for i, j in pairs if known[i].turn != OPEN)


class Counted(list[Known]):
    """Known words that count how often one is looked at."""

    looks = 0

    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        self.looks += 1
        return super().__getitem__(place)


@pytest.mark.parametrize(
    ("heard", "every_ms", "known", "looks"),
    [
        pytest.param(60, 300, 200, 700, id="a long turn against a minute"),
        pytest.param(60, 300, 1000, 700, id="against five minutes: no more"),
        pytest.param(1000, 0, 1000, 14_000, id="what no service should say"),
    ],
)
def test_comparing_is_bounded(heard: int, every_ms: int, known: int, looks: int) -> None:
    """A word is compared with those about it, however many are known: all calls wait meanwhile."""
    counted = Counted(Known("five", n * every_ms, n * every_ms, 0, 0, 10**6, 1.0) for n in range(known))
    align(counted, [Heard("five", n * every_ms, n * every_ms) for n in range(heard)])
    assert counted.looks < looks


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
