"""Words counted: lost, doubled, moved, invented; and the word error rate."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.count import Count, aligned, compare, errors, settled, words_of

WORDS = st.lists(st.integers(0, 30), max_size=40)


@given(WORDS)
def test_what_is_heard_as_spoken_is_whole(spoken: list[int]) -> None:
    """Nothing is lost, doubled, moved or invented, repetitions within the speech included."""
    assert compare(spoken, spoken) == Count(spoken=len(spoken), heard=len(spoken))
    assert compare(spoken, spoken).whole


@given(WORDS.filter(bool), st.data())
def test_a_word_left_out_is_lost(spoken: list[int], data: st.DataObject) -> None:
    """One word fewer is one lost, whichever it was."""
    place = data.draw(st.integers(0, len(spoken) - 1))
    count = compare(spoken, spoken[:place] + spoken[place + 1 :])
    assert (count.lost, count.doubled, count.moved, count.invented) == (1, 0, 0, 0)


@given(WORDS.filter(bool), st.data())
def test_a_word_said_again_is_doubled(spoken: list[int], data: st.DataObject) -> None:
    """One word more, of those that were spoken, is one doubled, wherever it is heard again."""
    word = data.draw(st.sampled_from(spoken))
    place = data.draw(st.integers(0, len(spoken)))
    count = compare(spoken, [*spoken[:place], word, *spoken[place:]])
    assert (count.lost, count.doubled, count.moved, count.invented) == (0, 1, 0, 0)


@given(WORDS, st.integers(31, 60), st.data())
def test_a_foreign_word_is_invented(spoken: list[int], word: int, data: st.DataObject) -> None:
    """A word that was never spoken on the leg is another's."""
    place = data.draw(st.integers(0, len(spoken)))
    count = compare(spoken, [*spoken[:place], word, *spoken[place:]])
    assert (count.lost, count.doubled, count.moved, count.invented) == (0, 0, 0, 1)


def test_a_word_out_of_its_place_is_moved() -> None:
    """It is neither lost nor doubled."""
    assert compare([1, 2, 3, 4, 5], [1, 3, 4, 2, 5]) == Count(spoken=5, heard=5, moved=1)
    assert not compare([1, 2, 3, 4, 5], [1, 3, 4, 2, 5]).whole


def test_a_word_not_sent_whole_may_be_heard_or_not() -> None:
    """It is not spoken for the count, and no loss; heard, it is no doubling either."""
    assert compare([1, 2, 3], [1, 3], cut=[1]) == Count(spoken=2, heard=2)
    assert compare([1, 2, 3], [1, 2, 3], cut=[1]) == Count(spoken=2, heard=3)
    assert compare([1, 2, 3], [1], cut=[1]).lost == 1


def test_of_equal_words_the_whole_one_was_heard() -> None:
    """Of "five five five" that was said, one or two cut: what was heard is what was sent whole, at its place."""
    assert compare([5, 5, 5], [5, 5], cut=[0, 1]).whole
    assert compare([4, 5, 5, 5, 6], [4, 5, 6], cut=[1, 2]) == Count(spoken=3, heard=3)
    assert settled([4, 5, 5, 5, 6], [4, 5, 6], [1, 2]) == [(0, 0), (3, 1), (4, 2)]
    assert settled([4, 5, 5, 5, 6], [4, 5, 6], [2, 3]) == [(0, 0), (1, 1), (4, 2)]
    assert settled([5, 5, 5], [5, 5], [0]) == [(1, 0), (2, 1)]
    assert compare([5, 6, 5], [5, 6], cut=[0]).lost == 1


@given(WORDS, st.data())
def test_cut_words_never_make_a_loss(spoken: list[int], data: st.DataObject) -> None:
    """Whichever of the words that were cut are heard, those that were sent whole are all there."""
    places = st.integers(0, max(0, len(spoken) - 1))
    cut = data.draw(st.sets(places)) & set(range(len(spoken)))
    unheard = data.draw(st.sets(st.sampled_from(sorted(cut)))) if cut else set()
    # Words in a row may be equal, words apart are not: as scripts are.
    distinct = [place // 3 for place in range(len(spoken))]
    heard = [word for place, word in enumerate(distinct) if place not in unheard]
    assert compare(distinct, heard, sorted(cut)).whole


@given(WORDS, WORDS)
def test_what_is_aligned_is_a_common_subsequence(spoken: list[int], heard: list[int]) -> None:
    """The pairs join equal words, and both of their places rise."""
    pairs = sorted(aligned(spoken, heard))
    assert all(spoken[here] == heard[there] for here, there in pairs)
    assert all(one < other for pair in itertools.pairwise(pairs) for one, other in zip(*pair, strict=True))


@given(WORDS, WORDS)
def test_no_common_subsequence_is_longer(spoken: list[int], heard: list[int]) -> None:
    """The alignment is the longest there is, by the textbook's table."""
    table = [[0] * (len(heard) + 1) for _ in range(len(spoken) + 1)]
    for i, one in enumerate(spoken):
        for j, other in enumerate(heard):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    assert len(aligned(spoken, heard)) == table[-1][-1]


def test_hours_of_words_are_aligned_in_no_time() -> None:
    """Four hours of a leg, with a word lost at either end: the vocabulary comes round 38 times."""
    spoken = [number % 768 for number in range(29_000)]
    count = compare(spoken, spoken[1:-1])
    assert (count.lost, count.moved, count.doubled) == (2, 0, 0)


def test_counts_add_up() -> None:
    """The sum of two legs."""
    assert Count(3, 2, 1).plus(Count(4, 4)) == Count(7, 6, 1)


def test_words_of_a_text() -> None:
    """Case and punctuation do not count, an apostrophe does."""
    assert words_of("Good morning, it's 5 o'clock.") == ["good", "morning", "it's", "5", "o'clock"]


def test_word_errors() -> None:
    """Put in, left out, changed: one each."""
    reference = ["can", "you", "deliver", "it", "on", "saturday"]
    assert errors(reference, reference) == 0
    assert errors(reference, ["can", "you", "deliver", "it", "on", "a", "saturday"]) == 1
    assert errors(reference, ["can", "deliver", "it", "on", "saturday"]) == 1
    assert errors(reference, ["can", "you", "deliver", "it", "on", "jeopardy"]) == 1
    assert errors(reference, []) == 6
