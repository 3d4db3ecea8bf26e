"""Whole calls: coded speech in at the carrier's side, signed events out at the receiver's; every word counted."""

from pathlib import Path

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
