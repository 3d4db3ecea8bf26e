"""The process itself fails, is stopped, or is started twice: what was accepted is kept, what was open is closed or said."""

import asyncio
import signal
import stat
from pathlib import Path

import aiohttp
import pytest

from gateway.emulator import tones
from gateway.emulator.faults import Faults
from tests.whole.rig import Caller, Process, check, coded, environment, process_rig, speak, types, words


def tracks(seconds: float, first: int = 0) -> dict[str, bytes]:
    return {
        "inbound": speak(coded(seconds, first=first), seconds),
        "outbound": speak(coded(seconds, first=first + 40), seconds),
    }


async def test_kill_and_no_carrier(tmp_path: Path) -> None:
    """Kill -9 in mid-call: the next start says each open session a zombie, ends the call with what was final, loses no event."""
    async with process_rig(tmp_path, reconnect_seconds=2) as (house, process):
        one = Caller(house, "CA1", tracks(8.0))
        await one.connect()
        await one.play(6000)
        before = words(house.events("CA1"), "inbound")
        assert before
        process.signal(signal.SIGKILL)
        await process.exited()
        again = Process(process.environ)
        await again.start()
        try:
            await house.ended("CA1", seconds=15)
            events = house.events("CA1")
            assert sorted({event["data"]["sequence"] for event in events}) == list(range(1, len(events) + 1))
            assert events[-1]["type"] == "call.ended"
            assert events[-1]["data"]["reason"] == "gateway_lost"
            assert types(events)["call.started"] == 1
            assert types(events)["session.zombie"] == 2
            assert {e["data"]["reason"] for e in events if e["type"] == "session.zombie"} == {"crash"}
            assert all(e["data"]["cost_usd"] > 0 for e in events if e["type"] == "session.zombie")
            said = [
                w["text"]
                for t in events[-1]["data"]["transcript"]
                if t["leg"]["track"] == "inbound"
                for w in t["words"]
            ]
            assert said == [text for text, _ in words(events, "inbound")]
            assert said[: len(before)] == [text for text, _ in before]
            assert types(events)["audio.gap"] == 2  # what was spoken and not final is said to be missing
        finally:
            await again.end()


async def test_kill_and_the_carrier_comes_back(tmp_path: Path) -> None:
    """Kill -9, and the carrier reconnects in time: the same call, no second `call.started`, turns and sequence run on."""
    async with process_rig(tmp_path, reconnect_seconds=10) as (house, process):
        one = Caller(house, "CA1", tracks(8.0))
        await one.connect()
        await one.play(6000)
        process.signal(signal.SIGKILL)
        await process.exited()
        again = Process(process.environ)
        await again.start()
        try:
            house.carriers = again.carriers
            await Caller(house, "CA1", tracks(4.0, first=200), stream_id="MZ2").whole()
            await house.ended("CA1", seconds=20)
            events = house.events("CA1")
            assert types(events)["call.started"] == types(events)["call.ended"] == 1
            assert sorted({event["data"]["sequence"] for event in events}) == list(range(1, len(events) + 1))
            assert events[-1]["data"]["reason"] == "stopped"
            turns = [
                e["data"]["turn"]
                for e in events
                if e["type"] == "turn.final" and e["data"]["leg"]["track"] == "inbound"
            ]
            assert [turn["index"] for turn in turns] == list(range(len(turns)))
            heard = [text for text, _ in words(events, "inbound")]
            after = [tones.spelled(spoken.word) for spoken in coded(4.0, first=200)]
            assert heard[-len(after) :] == after
            whole = [
                w["text"]
                for t in events[-1]["data"]["transcript"]
                if t["leg"]["track"] == "inbound"
                for w in t["words"]
            ]
            assert whole == heard
        finally:
            await again.end()


async def test_one_store_one_process(tmp_path: Path) -> None:
    """A second process on the same store exits 2 and disturbs nobody; the store's file is its owner's alone."""
    async with process_rig(tmp_path) as (house, process):
        second = Process(process.environ)
        try:
            with pytest.raises(AssertionError, match="exit 2"):
                await second.start()
        finally:
            await second.end()
        assert stat.S_IMODE((tmp_path / "gateway.db").stat().st_mode) == 0o600
        script = coded(3.0)
        await Caller(house, "CA1", {"inbound": speak(script, 3.0)}).whole()
        await house.ended("CA1")
        check(house.events("CA1"), {"inbound": script})


async def test_drain(tmp_path: Path) -> None:
    """SIGTERM: not ready, nobody new, the running call goes on to its end; exit 0 with nothing owed."""
    async with process_rig(tmp_path, drain_seconds=60) as (house, process):
        script = coded(6.0)
        one = Caller(house, "CA1", {"inbound": speak(script, 6.0)})
        await one.connect()
        await one.play(2000)
        process.signal(signal.SIGTERM)

        async def refused() -> None:
            while True:  # the listener is closed as the signal is handled, a moment after it was sent
                try:
                    other = Caller(house, "CA2", {"inbound": b""})
                    await other.connect()
                    await other.stop()
                except (OSError, aiohttp.ClientError):
                    return

        await asyncio.wait_for(refused(), 5)
        status, body = await house.get("/readyz")
        assert status == 503
        assert '"draining":true' in body
        assert (await house.get("/healthz"))[0] == 200
        await one.play()
        await one.stop()
        assert await process.exited() == 0
        check(house.events("CA1"), {"inbound": script})
        house.nothing_leaked()


async def test_drain_deadline(tmp_path: Path) -> None:
    """At the drain's deadline calls are ended as if hung up: last words included, every session terminated, exit 0."""
    async with process_rig(tmp_path, drain_seconds=60) as (house, process):
        calls = [Caller(house, f"CA{n}", tracks(20.0, first=n)) for n in range(10)]
        await asyncio.gather(*(one.connect() for one in calls))
        playing = [asyncio.ensure_future(one.play()) for one in calls]  # noqa: TID251  cancelled below
        await house.endpoint.until(lambda: sum(r.type == "turn.final" for r in house.endpoint.received) >= 20, 20)
        process.signal(signal.SIGTERM)
        while (await house.get("/readyz"))[0] != 503:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.02)
        process.signal(signal.SIGTERM)  # a second one shortens the wait, never the termination of sessions
        assert await process.exited(15) == 0
        for task in playing:
            task.cancel()
        for one in calls:
            events = house.events(one.call_id)
            assert events[-1]["type"] == "call.ended"
            assert events[-1]["data"]["reason"] == "drained"
        house.nothing_leaked()


async def test_kill_while_the_receiver_fails(tmp_path: Path) -> None:
    """Events accepted before kill -9, and not delivered yet, arrive after the restart, in order and under their ids."""
    from tests.fakes.endpoint import Answer  # noqa: PLC0415

    async with process_rig(tmp_path, Faults(), reconnect_seconds=1) as (house, process):
        house.endpoint.order = lambda _received: Answer(500)
        script = coded(3.0)
        await Caller(house, "CA1", {"inbound": speak(script, 3.0)}).whole()
        await house.emulator.wait(lambda: house.emulator.ledger.totals.terminated == 1, timeout=10)
        while await house.metric("gateway_calls_active") > 0:  # noqa: ASYNC110  seen from outside
            await asyncio.sleep(0.05)
        process.signal(signal.SIGKILL)
        await process.exited()
        house.endpoint.received.clear()
        house.endpoint.order = lambda _received: Answer()
        again = Process(environment(tmp_path, house.emulator, house.endpoint))
        await again.start()
        try:
            await house.ended("CA1", seconds=30)
            check(house.events("CA1"), {"inbound": script})
        finally:
            await again.end()
