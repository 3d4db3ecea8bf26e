"""
What a receiver may hold a gateway to, for one call, whatever order of attempts it saw. Pure.

Fed with the deliveries that were accepted (answered 2xx), in the order of their acceptance:

    sequence         1, 2, 3, … without a hole; a repetition has the `webhook-id` of the first
    turn.final       each turn once, `index` counting up within its leg; none after `call.ended`
    turn.partial     beside the order, and never after its turn is final
    call.started     first; call.ended last, unless the call opens anew
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_MOST_FAULTS: Final = 20


class Said(NamedTuple):
    """A final turn."""

    track: str
    text: str
    start_ms: int
    end_ms: int
    words: tuple[tuple[str, int], ...]
    """Text and start of each, where the turn has them."""


class CallCheck:
    """One call's events so far, and what was wrong with them."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.finals: list[Said] = []
        """In order of arrival."""
        self.events = 0
        self.repeated = 0
        """Deliveries that came again after they had been accepted: allowed."""
        self.sessions_started = 0
        self.sessions_ended: list[Mapping[str, Any]] = []
        self.zombies = 0
        self.gaps_ms = 0
        self.ended: Mapping[str, Any] | None = None
        """`data` of the call's last `call.ended`, while nothing followed it."""
        self._sequence = 0
        self._ids: dict[int, str] = {}
        self._finals: set[str] = set()
        self._next_index: dict[str, int] = {}
        self._endings = 0

    def take(self, webhook_id: str, kind: str, data: Mapping[str, Any]) -> bool:
        """Take one accepted delivery; False where it is a repetition."""
        if kind == "turn.partial":
            turn_id = data["turn"]["id"]
            if turn_id in self._finals and data["turn"]["text"]:
                self._fault(f"a partial of {turn_id} after its final")
            return True
        sequence = data["sequence"]
        known = self._ids.get(sequence)
        if known is not None:
            self.repeated += 1
            if known != webhook_id:
                self._fault(f"sequence {sequence} twice, with two ids")
            return False
        if sequence != self._sequence + 1:
            self._fault(f"sequence {sequence} after {self._sequence}")
        if self.ended is not None and kind != "call.started":
            self._fault(f"{kind} after call.ended")
        if not self._ids and kind != "call.started":
            self._fault(f"{kind} comes first")
        self._ids[sequence] = webhook_id
        self._sequence = max(sequence, self._sequence)
        self.events += 1
        self.ended = None
        self._take_new(kind, data)
        return True

    def _take_new(self, kind: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "turn.final":
                self._final(data)
            case "session.started":
                self.sessions_started += 1
            case "session.ended":
                self.sessions_ended.append(data["session"])
            case "session.zombie":
                self.zombies += 1
            case "audio.gap":
                self.gaps_ms += data["end_ms"] - data["start_ms"]
            case "call.ended":
                self.ended = data
                self._endings += 1
                transcript = data["transcript"]
                if (
                    self._endings == 1
                    and transcript is not None
                    and {turn["id"] for turn in transcript} != self._finals
                ):
                    self._fault(f"call.ended has {len(transcript)} turns, {len(self._finals)} were final")

    def _final(self, data: Mapping[str, Any]) -> None:
        track, turn = data["leg"]["track"], data["turn"]
        if turn["id"] in self._finals:
            self._fault(f"{turn['id']} is final twice")
        if turn["index"] != self._next_index.get(track, 0):
            self._fault(f"{turn['id']} is the turn after index {self._next_index.get(track, 0) - 1}")
        self._finals.add(turn["id"])
        self._next_index[track] = turn["index"] + 1
        words = tuple((word["text"], word["start_ms"]) for word in turn["words"] or ())
        self.finals.append(Said(track, turn["text"], turn["start_ms"], turn["end_ms"], words))

    def _fault(self, sentence: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(sentence)

    def text(self, track: str) -> str:
        """All that a leg said."""
        return " ".join(said.text for said in self.finals if said.track == track)
