"""Several streams of one call, and holes in one: nothing is heard twice, what nobody heard is said, the process lives on."""

import asyncio
from pathlib import Path

import pytest

from gateway.emulator import tones
from tests.whole.rig import Caller, TelnyxCaller, check, coded, rig, speak, types, words


async def test_each_track_on_a_stream_of_its_own(tmp_path: Path) -> None:
    """`inbound_track` and `outbound_track` as two streams of one call: both legs are heard."""
    async with rig(tmp_path) as house:
        inbound, outbound = coded(5.0), coded(5.0, first=40)
        one = Caller(house, "CA1", {"inbound": speak(inbound, 5.0)})
        two = Caller(house, "CA1", {"outbound": speak(outbound, 5.0)}, stream_id="MZ2")
        await asyncio.gather(one.whole(), two.whole())
        await house.ended("CA1")
        check(house.events("CA1"), {"inbound": inbound, "outbound": outbound}, within_ms=200)
        assert house.emulator.ledger.totals.opened == 2
        house.nothing_leaked()


async def test_what_was_spoken_between_two_sockets(tmp_path: Path) -> None:
    """A carrier that comes back after 1.5 s: the time between is an `audio.gap` on every leg."""
    async with rig(tmp_path) as house:
        first = Caller(house, "CA1", {"inbound": speak(coded(3.0), 3.0)})
        await first.connect()
        await first.play(2000)
        first.vanish()
        await asyncio.sleep(1.5)
        await Caller(house, "CA1", {"inbound": speak(coded(2.0, first=50), 2.0)}, stream_id="MZ2").whole()
        await house.ended("CA1")
        gaps = [e["data"] for e in house.events("CA1") if e["type"] == "audio.gap"]
        assert [(gap["leg"]["track"], gap["reason"]) for gap in gaps] == [("inbound", "carrier_loss")]
        assert abs(gaps[0]["start_ms"] - 2000) < 50
        assert 1300 < gaps[0]["end_ms"] - gaps[0]["start_ms"] < 2500
        house.nothing_leaked()


@pytest.mark.parametrize("late_ms", [20, 500])
async def test_a_jump_and_then_nothing(tmp_path: Path, late_ms: int) -> None:
    """Timestamps jump by 12 s, one frame follows, then the party is mute: the hole is said, and other calls are heard."""
    async with rig(tmp_path) as house:
        jumps = Caller(house, "CA1", {"inbound": speak(coded(2.0), 2.0)})
        await jumps.connect()
        await jumps.play()
        media = {"track": "inbound", "chunk": "101", "timestamp": str(2007 + 12_000), "payload": "//" * 106 + "/w=="}
        await jumps.send({"event": "media", "media": media, "streamSid": "MZ1"})
        await asyncio.sleep(late_ms / 1000)
        script = coded(4.0)
        await Caller(house, "CA2", {"inbound": speak(script, 4.0)}).whole()
        await house.ended("CA2", seconds=20)
        check(house.events("CA2"), {"inbound": script})
        await jumps.stop()
        await house.ended("CA1", seconds=30)
        events = house.events("CA1")
        gaps = [e["data"] for e in events if e["type"] == "audio.gap"]
        assert [(gap["reason"], gap["end_ms"] - gap["start_ms"]) for gap in gaps] == [("carrier_loss", 12_000)]
        assert [text for text, _ in words(events, "inbound")] == [tones.spelled(s.word) for s in coded(2.0)]
        house.nothing_leaked()


async def test_telnyx_takes_over_from_a_dead_socket(tmp_path: Path) -> None:
    """The older socket looks alive and says nothing; the newer stream begins behind a hole: heard, the hole said."""
    async with rig(tmp_path) as house:
        older = TelnyxCaller(house, "v3:1", {"inbound": speak(coded(2.0), 2.0)})
        await older.connect()
        await older.play(1980)
        await asyncio.sleep(0.5)
        later = coded(3.0, first=60)
        await TelnyxCaller(house, "v3:1", {"inbound": speak(later, 3.0)}, stream_id="second").whole()
        await house.ended("v3:1")
        events = house.events("v3:1")
        expected = [s for s in coded(2.0) if s.end_ms <= 1980] + later
        assert [text for text, _ in words(events, "inbound")] == [tones.spelled(s.word) for s in expected]
        house.nothing_leaked()


async def test_one_id_two_carriers(tmp_path: Path) -> None:
    """A second carrier cannot speak in another's call."""
    async with rig(tmp_path) as house:
        script = coded(3.0)
        one = Caller(house, "CA1", {"inbound": speak(script, 3.0)})
        await one.connect()
        await one.play(1000)
        thief = TelnyxCaller(house, "CA1", {})
        await thief.connect()
        assert thief.ws is not None
        closed = await thief.ws.receive()
        assert (closed.data, closed.extra) == (1008, "wrong_call")
        await one.play()
        await one.stop()
        await house.ended("CA1")
        events = house.events("CA1")
        check(events, {"inbound": script})
        assert types(events)["session.ended"] == 1
        session = next(e["data"]["session"] for e in events if e["type"] == "session.ended")
        assert events[-1]["data"]["billed_seconds"] == session["billed_seconds"]
        assert events[-1]["data"]["cost_usd"] == pytest.approx(session["cost_usd"])
