"""
Words said again: which of the words a session hears were heard before, and which are new. Pure.

A session that begins where an earlier one has heard already (replay, overlap) says words again. They are recognised by time
*and* text, one to one and in order, against the words that are known already (`align`); what remains is new (`new_words`).
So a word that was really said three times running is neither swallowed nor doubled. Where the times alone cannot tell, that
is believed which is least hard to believe.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

from gateway.speech import protocol

Place = Callable[[float], int]
"""From milliseconds of a session's audio to milliseconds on the call's clock."""

EARLY_MS: Final = 1000
"""A turn's first word, after silence, is told up to so much too early."""
JITTER_MS: Final = 60
"""So exactly is any other word's start told."""
TWICE_MS: Final = 2 * JITTER_MS
_SLACK_MS: Final = 80
"""So much further apart than can be explained two hearings may be, where the word must have been heard again."""
REACH_MS: Final = EARLY_MS + TWICE_MS + _SLACK_MS
_OTHERWISE_MS: Final = 150
"""A word heard as another one begins at most so far from it."""
EDGE_MS: Final = 50
SHORTEST_WORD_MS: Final = 80
_MOST_HEARD: Final = 400
"""So many words of a turn are compared at most …"""
_MOST_NEAR: Final = 32
"""… each with so many known ones: more than anybody says in that time."""


class Heard(NamedTuple):
    """A word of a session, to be compared; milliseconds on the call's clock."""

    plain: str
    start: int
    latest: int
    """When it began at the latest: a first word may have been told early."""


class Known(NamedTuple):
    """A word that may be said again."""

    plain: str
    start: int
    latest: int
    turn: int
    """Index of its turn; `OPEN` where that is not final."""
    low: int
    """Where that turn's first word begins …"""
    high: int
    """… and its last one."""
    missed: float
    """How hard it is to believe that it is not said again."""


# How hard is it to believe that …

OPEN: Final = -1
MISSED: Final = 1.0
"""… a known word is not heard again though its sound is there?"""
_MISSED_OPEN: Final = 0.4
"""… a word that was heard and is not final is not?"""
PERHAPS: Final = 0.5
"""… a first word that was told before the replay begins was also said before it?"""
CLIPPED: Final = 0.3
"""… a word on which the replay begins is not heard again, or is heard as another one?"""
_ADDED: Final = 1.0
"""… something is heard before a known word, where nothing was heard at first?"""
_ADDED_OPEN: Final = 0.3
"""… the same, before a word that is not final?"""
_TOO_SOON: Final = 0.1
"""… a new word is told where the last known one lies?"""
_OTHERWISE: Final = 0.9
"""… a known word is heard as another one?"""
_APART: Final = 0.1
"""… two hearings are as far apart as jitter makes them?"""
_APART_EARLY: Final = 0.4
"""… one is early by `EARLY_MS`, besides?"""
_APART_MORE: Final = 0.5
"""… they are further apart than anything explains?"""


def align(known: Sequence[Known], heard: Sequence[Heard], from_ms: int | None = None) -> list[tuple[int, int]]:
    """
    Pairs (known, heard) that are one word heard twice: one to one and in order, as is least hard to believe.

    Final words come first in *known*; what is heard begins at *from_ms*. Each word is compared with those about it only, so
    that the time this takes grows with the words heard and not with those known.
    """
    heard = heard[:_MOST_HEARD]
    if not known or not heard:
        return []
    # Starts are nearly in order: so far have all before come, so far back is any to come.
    highest = list(accumulate([word.start for word in known], max))
    lowest = list(accumulate([word.start for word in reversed(known)], min))[::-1]
    missed = [word.missed for word in known]
    missed_to = [0.0, *accumulate(missed)]
    final = sum(word.turn != OPEN for word in known)
    added = [_ADDED] * final + [_ADDED_OPEN] * (len(known) - final) + [0.0]
    too_soon_ms = max([word.start for word in known[:final]], default=0) + TWICE_MS
    clip_ms = heard[0].start - 1 if from_ms is None else from_ms + TWICE_MS
    # After each word heard: how hard it is that it and all before answer to the first `i` known ones, from `low` to `high`.
    low = high = 0
    hardness = [0.0]
    rows: list[tuple[int, int, list[int]]] = []
    for j, word in enumerate(heard):
        low_before, high_before = low, high
        low = max(low, bisect_left(highest, word.start - REACH_MS))
        high = min(max(high, low, bisect_right(lowest, word.start + REACH_MS)), low + _MOST_NEAR)
        # Behind those compared with the word before, all are missed.
        reached = hardness + [
            hardness[-1] + missed_to[i] - missed_to[high_before] for i in range(high_before + 1, high + 1)
        ]
        soon = _TOO_SOON if word.start < too_soon_ms else 0.0
        most = CLIPPED if j == 0 and word.start <= clip_ms else _ADDED
        hardness, steps = [], []
        for i in range(low, high + 1):
            best = reached[i - low_before] + min(added[i], most) + (soon if i >= final else 0.0)
            step = _ADD
            if i > low:
                if (miss := hardness[-1] + missed[i - 1]) < best:
                    best, step = miss, _MISS
                pair = _pair(known[i - 1], word)
                if pair is not None and (same := reached[i - 1 - low_before] + pair) <= best:
                    best, step = same, _PAIR
            hardness.append(best)
            steps.append(step)
        rows.append((low, high, steps))
    # Of the rest, those before the last word heard were missed; those behind may still come.
    end = heard[-1].start
    rest = missed_to[-1] - missed_to[max(high, final)]
    at, least = high, hardness[-1] + rest
    for i in range(high - 1, low - 1, -1):
        if i >= final or known[i].latest < end - TWICE_MS:
            rest += missed[i]
        elif known[i].start < end + TWICE_MS:
            rest += missed[i] / 2  # perhaps it was told early
        if hardness[i - low] + rest < least:
            at, least = i, hardness[i - low] + rest
    pairs: list[tuple[int, int]] = []
    for j in range(len(heard) - 1, -1, -1):
        low, high, steps = rows[j]
        at = min(at, high)
        while (step := steps[at - low]) == _MISS:
            at -= 1
        if step == _PAIR:
            at -= 1
            pairs.append((at, j))
    return pairs[::-1]


_ADD, _MISS, _PAIR = range(3)


def _pair(known: Known, heard: Heard) -> float | None:
    """How hard it is to believe that two words are one; None: they are not."""
    apart = heard.start - known.start
    certain = known.missed >= MISSED
    if known.plain != heard.plain:
        return _OTHERWISE + _APART * abs(apart) / _OTHERWISE_MS if certain and abs(apart) <= _OTHERWISE_MS else None
    # Told early, a word seems to lie before its other hearing.
    unexplained = max(apart - (known.latest - known.start), -apart - (heard.latest - heard.start)) - TWICE_MS
    if unexplained > (_SLACK_MS if certain else 0):
        return None
    jitter = min(abs(apart), TWICE_MS)
    hard = _APART * jitter / TWICE_MS + _APART_EARLY * (abs(apart) - jitter) / EARLY_MS
    return hard + _APART_MORE if unexplained > 0 else hard


def new_words(
    known: Sequence[Known], heard: Sequence[Heard], pairs: Sequence[tuple[int, int]], from_ms: int | None = None
) -> list[int]:
    """
    Which of the words heard are new: no known one, and not inside a turn that is final.

    Inside, by order and by time, the same audio was heard another way: that is no new word either.
    """
    keep: list[int] = []
    before = -1
    following = iter([*pairs, (len(known), len(heard))])
    behind, paired = next(following)
    spans = _spans_between(known, before, behind)
    # Where the replay begins inside a word, its clip is heard first; all before a word heard at first was heard whole then.
    whole = any(word.missed >= MISSED for word in known) or (
        behind < len(known) and all(word.turn != OPEN for word in known[:behind])
    )
    clip_ms = heard[0].start - 1 if from_ms is None or not whole else from_ms + TWICE_MS
    for j, word in enumerate(heard):
        if j == paired:
            before = behind
            behind, paired = next(following)
            spans = _spans_between(known, before, behind)
            if known[before].turn == OPEN:
                keep.append(j)
        elif not (before < 0 and word.start <= clip_ms) and not any(a <= word.start <= b for a, b in spans):
            keep.append(j)
    return keep


def _spans_between(known: Sequence[Known], before: int, behind: int) -> set[tuple[float, float]]:
    """Where, between two known words, final turns lie."""
    among = list(known[before + 1 : behind])
    if behind < len(known):
        first = known[behind]
        if before >= 0 and known[before].turn == first.turn != OPEN:
            return {(float("-inf"), float("inf"))}
        if (behind > 0 and known[behind - 1].turn == first.turn) or (behind == 0 and first.start > first.low):
            among.append(first)
    return {(word.low - EDGE_MS, word.high + EDGE_MS) for word in among if word.turn != OPEN}


def heard_of(place: Place, message: protocol.Turn) -> list[Heard]:
    """A turn's words, to be compared."""
    heard = [Heard(plain_of(word.text), at := place(word.start), at) for word in message.words]
    if heard:
        heard[0] = heard[0]._replace(latest=latest_of(heard[0].start, heard[1].start if len(heard) > 1 else None))
    return heard


def latest_of(first: int, second: int | None) -> int:
    """When a turn's first word began at the latest: told early after silence, it begins before the second one all the same."""
    before = first + EARLY_MS if second is None else min(first + EARLY_MS, second - SHORTEST_WORD_MS)
    return max(first, before)


def known_open(word: Heard) -> Known:
    """A word that was heard, and is not final."""
    return Known(*word, OPEN, 0, 0, _MISSED_OPEN)


def longest_ms(plain: str) -> int:
    """How long a word takes at most, by its letters; a number is said in words."""
    return min(1000, 250 + sum([300 if c.isdigit() else 60 for c in plain]))


@lru_cache(maxsize=8192)
def plain_of(text: str) -> str:
    """A word as it sounds: without case and punctuation, which change from hearing to hearing."""
    return "".join(c for c in text.casefold() if c.isalnum()) or text
