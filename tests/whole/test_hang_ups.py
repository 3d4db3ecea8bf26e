"""The end of a call, in every way a carrier ends one: no word that was spoken is lost, no session stays open."""

import asyncio
from pathlib import Path

from gateway.emulator import tones
from gateway.emulator.faults import Faults
from tests.whole.rig import Caller, Rig, check, coded, rig, speak, types, words

SECONDS = 8.0


def caller(house: Rig, call_id: str, first: int = 0, seconds: float = SECONDS, **more: object) -> Caller:
    tracks = {
        "inbound": speak(coded(seconds, first=first), seconds),
        "outbound": speak(coded(seconds, first=first + 40), seconds),
    }
    return Caller(house, call_id, tracks, **more)  # type: ignore[arg-type]


async def test_hang_up_in_mid_word(tmp_path: Path) -> None:
    """`stop` in the middle of a word: every word before it is there; so with a socket that vanishes, whose call waits for it."""
    script = coded(SECONDS)
    cut = script[9].start_ms + tones.TONE_MS // 2
    async with rig(tmp_path, reconnect_seconds=1) as house:
        stops, vanishes = caller(house, "CA1"), caller(house, "CA2")

        async def stop() -> None:
            await stops.connect()
            await stops.play(cut)
            await stops.stop()

        async def vanish() -> None:
            await vanishes.connect()
            await vanishes.play(cut)
            vanishes.vanish()

        await asyncio.gather(stop(), vanish())
        await house.ended("CA1", "CA2")
        for call_id, reason in (("CA1", "stopped"), ("CA2", "socket_lost")):
            events = house.events(call_id)
            assert events[-1]["data"]["reason"] == reason
            heard = [text for text, _ in words(events, "inbound")]
            # The word that was cut may be heard or not; none before it may be missing, none after it invented.
            whole = [tones.spelled(spoken.word) for spoken in script[:9]]
            assert heard[:9] == whole
            assert len(heard) <= 10
        house.nothing_leaked()


async def test_one_call_over_two_sockets(tmp_path: Path) -> None:
    """A socket is lost without `stop` and the carrier comes back in time: one call, one clock, turns that run on."""
    async with rig(tmp_path, reconnect_seconds=4) as house:
        first, second = caller(house, "CA1"), caller(house, "CA1", first=200, seconds=4.0, stream_id="MZ2")
        await first.connect()
        await first.play(4000)
        first.vanish()
        lost_at = asyncio.get_running_loop().time()
        await asyncio.sleep(1.0)
        await second.whole()
        await house.ended("CA1")
        events = house.events("CA1")
        assert types(events)["call.started"] == types(events)["call.ended"] == 1
        assert [event["data"]["sequence"] for event in events] == list(range(1, len(events) + 1))
        for track, base in (("inbound", 0), ("outbound", 40)):
            before = [s for s in coded(SECONDS, first=base) if s.end_ms <= 4000]
            after = coded(4.0, first=200 + base)
            heard = words(events, track)
            assert [text for text, _ in heard] == [tones.spelled(s.word) for s in [*before, *after]]
            # "a later stream of the same call is placed on it by arrival"
            placed = heard[len(before)][1] - after[0].start_ms
            assert abs(placed - 5000) < 400, (placed, lost_at)
        house.nothing_leaked()


async def test_silent_carrier(tmp_path: Path) -> None:
    """Frames stop and the socket stays: the call ends; frames that resume on it open the call anew, numbers run on."""
    async with rig(tmp_path, media_timeout_seconds=2) as house:
        one = caller(house, "CA1")
        await one.connect()
        await one.play(3000)
        await house.ended("CA1")
        assert house.events("CA1")[-1]["data"]["reason"] == "media_timeout"
        house.nothing_leaked()
        await one.play(6000)
        await one.stop()
        await house.ended("CA1", times=2)
        events = house.events("CA1")
        assert types(events)["call.started"] == 2
        assert [event["data"]["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["data"]["reason"] == "stopped"
        indexes = [
            e["data"]["turn"]["index"]
            for e in events
            if e["type"] == "turn.final" and e["data"]["leg"]["track"] == "inbound"
        ]
        assert indexes == list(range(len(indexes)))
        house.nothing_leaked()


async def test_call_opened_anew_by_a_later_stream(tmp_path: Path) -> None:
    """After `call.ended` a new stream of the same call opens it anew: `call.started` again, sequence and turns run on."""
    async with rig(tmp_path) as house:
        await caller(house, "CA1", seconds=3.0).whole()
        await house.ended("CA1")
        first = house.events("CA1")
        await caller(house, "CA1", first=100, seconds=3.0, stream_id="MZ2").whole()
        await house.ended("CA1", times=2)
        events = house.events("CA1")
        assert [event["data"]["sequence"] for event in events] == list(range(1, len(events) + 1))
        anew = events[len(first) :]
        assert anew[0]["type"] == "call.started"
        said = [turn["leg"]["track"] for turn in anew[-1]["data"]["transcript"]]
        assert said
        assert all(turn["words"][0]["text"] != "w0" for turn in anew[-1]["data"]["transcript"])
        starts = [e["data"]["turn"]["start_ms"] for e in events if e["type"] == "turn.final"]
        assert min(starts[len([e for e in first if e["type"] == "turn.final"]) :]) > 3000


async def test_longest_call(tmp_path: Path) -> None:
    """A call older than the limit is ended, its words so far kept; frames that go on do not open it again."""
    async with rig(tmp_path, max_call_seconds=3) as house:
        one = caller(house, "CA1")
        await one.connect()
        await one.play()
        await house.ended("CA1")
        events = house.events("CA1")
        assert events[-1]["data"]["reason"] == "max_duration"
        assert types(events)["call.started"] == 1
        await one.stop()
        house.nothing_leaked()


async def test_duplicate_stream(tmp_path: Path) -> None:
    """A second living stream of one call is not transcribed twice; when the first one ends it takes over."""
    async with rig(tmp_path) as house:
        first, second = caller(house, "CA1"), caller(house, "CA1", stream_id="MZ2")
        await first.connect()
        await second.connect()

        async def until(one: Caller, ms: float) -> None:
            await one.play(ms)
            await one.stop()

        await asyncio.gather(until(first, 4000), until(second, 8000))
        await house.ended("CA1")
        check(house.events("CA1"), {"inbound": coded(SECONDS), "outbound": coded(SECONDS, first=40)}, within_ms=150)
        assert house.emulator.ledger.totals.opened == 2
        house.nothing_leaked()


async def test_idle_leg(tmp_path: Path) -> None:
    """A track that is named and silent is not paid for, beyond 20 s: its session is terminated while the call goes on."""
    async with rig(tmp_path) as house:
        script = coded(24.0)
        one = Caller(house, "CA1", {"inbound": speak(script, 24.0)}, names=("inbound", "outbound"))
        await one.whole()
        await house.ended("CA1")
        events = house.events("CA1")
        check(events, {"inbound": script})
        ended = [e["data"] for e in events if e["type"] == "session.ended" and e["data"]["leg"]["track"] == "outbound"]
        assert len(ended) == 1
        assert 19 < ended[0]["session"]["duration_seconds"] < 23
        outcomes = {leg["track"]: leg["outcome"] for leg in events[-1]["data"]["legs"]}
        assert outcomes == {"inbound": "complete", "outbound": "silent"}
        house.nothing_leaked()


async def test_stopped_twice_while_it_ends(tmp_path: Path) -> None:
    """A stream that comes back while the call ends, and stops again, leaves one call with one end."""
    async with rig(tmp_path, Faults(termination_delay_seconds=2.5)) as house:
        await caller(house, "CA1", seconds=2.0).whole()
        await caller(house, "CA1", first=100, seconds=1.0, stream_id="MZ2").whole()
        await house.ended("CA1")
        await house.emulator.wait(lambda: house.emulator.ledger.totals.open == 0, timeout=10)
        while await house.metric("gateway_calls_active") > 0:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.05)
        events = house.events("CA1")
        assert types(events)["call.started"] == types(events)["call.ended"] == 1
        assert [event["data"]["sequence"] for event in events] == list(range(1, len(events) + 1))
        house.nothing_leaked()
