"""
Where hearing goes on after a loss, and where audio may be cut. Pure; positions are samples at 8 kHz on the call's clock.

    a turn is open      from its first word less 1 s, or a pause a little later: the whole turn is heard again
    none is open        from 5 s before the loss, never further back: a listener's minutes of silence are not replayed;
                        and not from before the last final word, since all before it was heard
    nobody can tell     (a session without partials): as if a turn were open since the last silence that ends one
"""

from collections.abc import Callable
from typing import Final

from gateway import quiet
from gateway.audio import g711
from gateway.timeline import SAMPLES_PER_MS

SECOND: Final = 1000 * SAMPLES_PER_MS
BEFORE_A_LOSS: Final = 5 * SECOND
BEFORE_A_TURN: Final = SECOND
LONGEST_TURN: Final = 62 * SECOND
"""The service ends a turn after 60 s, whatever is being said."""
OVERLAP: Final = 3 * SECOND // 2
"""A cut that may go through a word is heard from so far before it by both sessions."""

_CERTAIN: Final = 300 * SAMPLES_PER_MS
"""So much of an open turn's run-up is always heard again: its first word may be told too late by a little."""
_BEFORE_A_WORD: Final = 200 * SAMPLES_PER_MS
_PAUSE_MS: Final = 160
_SHORT_PAUSE_MS: Final = 80
_VOICE_MS: Final = 60

Read = Callable[[int, int], tuple[int, bytes]]
"""(position, size) → (position, bytes), as `AudioBuffer.read`."""


def after_loss(
    *,
    began: int,
    open_from: int | None,
    sure: int,
    last_word: int | None,
    read: Read,
    encoding: g711.Encoding,
    turn_silence: int | None = None,
) -> int:
    """
    Where the next session begins to hear.

    *began*: where the lost one did, and before which nothing is due; *open_from*: where its open turn begins; *sure*: what it
    has certainly been sent in time to hear; *last_word*: where the last final word begins; *turn_silence*: where the session
    shows no open turns, a silence that surely ends one.
    """
    if open_from is not None:
        low = max(began, open_from - BEFORE_A_TURN)
        pauses = _pauses(low, open_from - _CERTAIN, read, encoding, _PAUSE_MS)
        return pauses[-1] if pauses else low
    low = max(began, sure - BEFORE_A_LOSS)
    if turn_silence is not None:
        earliest = max(began, sure - LONGEST_TURN, began if last_word is None else last_word - _BEFORE_A_WORD)
        return max(earliest, min(low, _since_silence(turn_silence, earliest, sure, read, encoding)))
    if last_word is not None and last_word - _BEFORE_A_WORD > low:
        # No pause is looked for here: what follows the last final word may be a word that nobody has heard.
        return last_word - _BEFORE_A_WORD
    # A second on is still 4 s before the loss: heard, and better begun between words than in one.
    pauses = _pauses(low, min(low + SECOND, sure - BEFORE_A_LOSS + SECOND), read, encoding, _PAUSE_MS)
    return pauses[0] if pauses else low


def needed(sure: int, last_word: int | None, *, turns_shown: bool) -> int:
    """The lowest position that `after_loss` may give where no turn is open that could be seen."""
    if turns_shown:
        return sure - BEFORE_A_LOSS
    earliest = sure - LONGEST_TURN
    return earliest if last_word is None else min(max(earliest, last_word - _BEFORE_A_WORD), sure - BEFORE_A_LOSS)


def before_cut(cut: int, began: int, read: Read, encoding: g711.Encoding) -> int:
    """Where the next session begins to hear if audio must be cut at *cut*, whatever is being said there."""
    low = max(cut - OVERLAP, began)
    pauses = _pauses(low, cut - OVERLAP // 2, read, encoding, _SHORT_PAUSE_MS)
    return pauses[0] if pauses else low


def is_pause(payload: bytes, encoding: g711.Encoding) -> bool:
    """Whether nobody speaks here."""
    return quiet.voiced_ms(payload, encoding) == 0


def has_voice(payload: bytes, encoding: g711.Encoding) -> bool:
    """Whether somebody may have spoken here."""
    return quiet.voiced_ms(payload, encoding) >= _VOICE_MS


def _since_silence(silence: int, earliest: int, at: int, read: Read, encoding: g711.Encoding) -> int:
    """Back from a position to the end of the last such silence before it; no further than to *earliest*, or to what is held."""
    silent = 0
    while at > earliest:
        begin = max(earliest, at - SECOND)
        found, payload = read(begin, at - begin)
        if found != begin:
            return at  # what was before is gone
        silent = 0 if has_voice(payload, encoding) else silent + at - begin
        at = begin
        if silent >= silence:
            return at + silent - _CERTAIN
    return at


def _pauses(low: int, high: int, read: Read, encoding: g711.Encoding, shortest_ms: int) -> list[int]:
    """Where pauses begin between two positions."""
    if high <= low:
        return []
    at, payload = read(low, high - low)
    if at != low:
        return []
    return [low + begin * SAMPLES_PER_MS for begin, _ in quiet.runs(payload, encoding, shortest_ms)]
