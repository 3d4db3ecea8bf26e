"""Whole calls: coded speech in at the carrier's side, signed events out at the receiver's; every word counted."""

from pathlib import Path

import pytest

from gateway.emulator.faults import Cut, Faults
from tests.whole.rig import Caller, check, coded, rig, speak, types

SECONDS = 8.0


async def test_two_party_call(tmp_path: Path) -> None:
    """Both legs come out word for word, in order, in time; two sessions, both terminated."""
    inbound, outbound = coded(SECONDS, first=0), coded(SECONDS, first=100, start_ms=900)
    async with rig(tmp_path) as house:
        tracks = {"inbound": speak(inbound, SECONDS), "outbound": speak(outbound, SECONDS)}
        await Caller(house, "CA1", tracks).whole()
        await house.ended("CA1")
        events = house.events("CA1")
        check(events, {"inbound": inbound, "outbound": outbound})
        assert types(events)["session.started"] == types(events)["session.ended"] == 2
        assert types(events)["audio.gap"] == 0
        assert house.emulator.ledger.totals.opened == 2
        house.nothing_leaked()


@pytest.mark.parametrize("unseen", ["include_partial_turns = false", "redact_pii = true"])
async def test_a_turn_that_is_never_shown_survives_a_loss(tmp_path: Path, unseen: str) -> None:
    """Without partials nobody sees an open turn; a session that is cut 11 s into one costs no word of it all the same."""
    config = tmp_path / "gateway.toml"
    config.write_text(f"[profiles.default.inbound.speech]\nspeaker_labels = false\n{unseen}\n")
    script = coded(14.0, words_a_turn=1000)
    async with rig(tmp_path, Faults(at={0: Cut(11.0)}), config=config) as house:
        await Caller(house, "CA1", {"inbound": speak(script, 15.0)}).whole()
        await house.ended("CA1")
        events = house.events("CA1")
        check(events, {"inbound": script})
        assert types(events)["session.started"] == 2
        assert types(events)["audio.gap"] == 0
        house.nothing_leaked()
