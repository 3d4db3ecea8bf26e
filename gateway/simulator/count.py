"""
Words counted: what was spoken against what was heard. Pure.

`compare` is for coded speech, where each word can be told: lost, doubled, moved or never spoken. `errors` is the
ordinary measure of recognisers: the fewest words put in, left out or changed that make one text of the other.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import msgspec


class Count(msgspec.Struct, frozen=True):
    """How many words of a leg, or of many, came to what."""

    spoken: int = 0
    heard: int = 0
    lost: int = 0
    doubled: int = 0
    moved: int = 0
    """Heard, but before or after its place."""
    invented: int = 0
    """Never spoken on this leg: another's, or nobody's."""

    @property
    def whole(self) -> bool:
        """Whether every word came once and in its place."""
        return not (self.lost or self.doubled or self.moved or self.invented)

    def plus(self, other: "Count") -> "Count":
        """The sum of both."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return Count(*(mine + yours for mine, yours in pairs))


def compare(spoken: Sequence[int], heard: Sequence[int], cut: Sequence[int] = ()) -> Count:
    """
    Count the words of one leg, in the order of speaking and of hearing.

    *cut* are the places in *spoken* of words that were not sent whole: they may be heard or not, and are no loss.
    """
    maybe = set(cut)
    kept = settled(spoken, heard, maybe)
    matched_spoken = {place for place, _ in kept}
    matched_heard = {place for _, place in kept}
    missing = Counter(word for place, word in enumerate(spoken) if place not in matched_spoken and place not in maybe)
    extra = Counter(word for place, word in enumerate(heard) if place not in matched_heard)
    moved = missing & extra
    extra -= moved
    known = set(spoken)
    return Count(
        spoken=len(spoken) - len(maybe),
        heard=len(heard),
        lost=(missing - moved).total(),
        doubled=sum(times for word, times in extra.items() if word in known),
        moved=moved.total(),
        invented=sum(times for word, times in extra.items() if word not in known),
    )


def settled(spoken: Sequence[int], heard: Sequence[int], cut: Collection[int]) -> list[tuple[int, int]]:
    """`aligned`; where it cannot be told which of several equal words in a row was heard, one that was sent whole."""
    pairs = dict(aligned(spoken, heard))
    for place, word in enumerate(spoken):
        if place in pairs or place in cut:
            continue
        for step in (-1, 1):
            other = place + step
            while 0 <= other < len(spoken) and spoken[other] == word and not (other in pairs and other in cut):
                other += step
            if 0 <= other < len(spoken) and spoken[other] == word:
                pairs[place] = pairs.pop(other)
                break
    return list(zip(sorted(pairs), sorted(pairs.values()), strict=True))


def aligned(one: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """
    Pairs of places of words that were heard where they were spoken: a longest common subsequence (Hunt and Szymanski).

    What begins and ends alike is taken at once, which is nearly always all.
    """
    head = 0
    while head < min(len(one), len(other)) and one[head] == other[head]:
        head += 1
    tail = 0
    while tail < min(len(one), len(other)) - head and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    pairs = [(place, place) for place in range(head)]
    pairs += [(len(one) - 1 - place, len(other) - 1 - place) for place in range(tail)]
    where: dict[int, list[int]] = defaultdict(list)
    for place in range(len(other) - tail - 1, head - 1, -1):
        where[other[place]].append(place)
    ends: list[int] = []  # the least place in `other` at which a common run of each length can end
    links: list[tuple[int, int, object]] = []
    for place in range(head, len(one) - tail):
        for match in where.get(one[place], ()):
            length = bisect_left(ends, match)
            link = (place, match, links[length - 1] if length else None)
            ends[length : length + 1] = [match]
            links[length : length + 1] = [link]
    link_or_none: object = links[-1] if links else None
    while isinstance(link_or_none, tuple):
        place, match, link_or_none = link_or_none
        pairs.append((place, match))
    return pairs


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; an apostrophe belongs to its word."""
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split()


def errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """The fewest words put in, left out or changed between two texts; by the reference's length, the word error rate."""
    row = list(range(len(heard) + 1))
    for count, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], count
        for place, other in enumerate(heard, 1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (word != other))
    return row[-1]
