"""Trouble around a good call: a receiver that fails, a crowd, hostile sockets, a service that refuses. Other calls go on."""

import asyncio
import contextlib
import json
from pathlib import Path

import aiohttp
import pytest

from gateway.emulator.faults import Failure, Faults
from gateway.media.proof import twilio_signature
from tests.fakes.endpoint import Answer
from tests.whole.rig import AUTH_TOKEN, PUBLIC, Caller, Rig, check, coded, rig, speak, types

SECONDS = 6.0


def caller(house: Rig, call_id: str, first: int = 0, seconds: float = SECONDS) -> Caller:
    tracks = {
        "inbound": speak(coded(seconds, first=first), seconds),
        "outbound": speak(coded(seconds, first=first + 40), seconds),
    }
    return Caller(house, call_id, tracks)


@pytest.mark.slow
async def test_receiver_fails_for_20_seconds(tmp_path: Path) -> None:
    """500 to everything for 20 s: afterwards every event is there, in order, at most 10 s after the receiver is back."""
    async with rig(tmp_path) as house:
        loop = asyncio.get_running_loop()
        back = loop.time() + 20
        house.endpoint.order = lambda _received: Answer(500 if loop.time() < back else 204)
        await caller(house, "CA1").whole()
        await house.ended("CA1", seconds=60)
        await house.endpoint.until(
            lambda: len(house.endpoint.accepted["CA1"]) == house.events("CA1")[-1]["data"]["sequence"], 40
        )
        assert loop.time() - back < 11
        check(house.events("CA1"), {"inbound": coded(SECONDS), "outbound": coded(SECONDS, first=40)})
        house.nothing_leaked()


@pytest.mark.slow
async def test_sixty_calls_within_half_a_second(tmp_path: Path) -> None:
    """All 120 legs come out word for word."""
    async with rig(tmp_path) as house:
        callers = [caller(house, f"CA{n}", first=n) for n in range(60)]

        async def arrive(one: Caller, after: float) -> None:
            await asyncio.sleep(after)
            await one.whole()

        await asyncio.gather(*(arrive(one, n / 120) for n, one in enumerate(callers)))
        await house.ended(*(one.call_id for one in callers), seconds=60)
        for n, one in enumerate(callers):
            check(
                house.events(one.call_id),
                {"inbound": coded(SECONDS, first=n), "outbound": coded(SECONDS, first=n + 40)},
            )
        assert house.emulator.ledger.totals.opened == 120
        house.nothing_leaked()


async def test_a_good_call_beside_bad_sockets(tmp_path: Path) -> None:
    """200 sockets that say nothing, rubbish, or too much: each is closed or ignored, the good call loses nothing."""
    signature = twilio_signature(AUTH_TOKEN, f"wss{PUBLIC.removeprefix('https')}/media/twilio")
    media = {"event": "media", "media": {"track": "inbound", "chunk": "1", "timestamp": "9" * 15, "payload": "!!"}}
    said: list[list[str | bytes]] = [
        [],
        ["{" * n for n in range(200)],
        [b"\0" * 1000] * 60,
        ["x" * 70_000],
        [json.dumps(media)] * 300,
        ['{"event":"start","start":{"callSid":1}}', '{"event":"stop"}'],
        ["[" * 5000],
    ]

    async with rig(tmp_path) as house:

        async def bad(n: int) -> None:
            await asyncio.sleep(n / 100)
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                ws = await house.http.ws_connect(
                    f"{house.carriers}/media/twilio", headers={"X-Twilio-Signature": signature}, max_msg_size=0
                )
                for one in said[n % len(said)]:
                    await (ws.send_bytes(one) if isinstance(one, bytes) else ws.send_str(one))
                await ws.close()

        async with asyncio.TaskGroup() as group:
            for n in range(200):
                group.create_task(bad(n))
            group.create_task(caller(house, "CA1").whole())
        await house.ended("CA1")
        check(house.events("CA1"), {"inbound": coded(SECONDS), "outbound": coded(SECONDS, first=40)})
        assert await house.metric("gateway_malformed_total", source="twilio") > 1000
        assert house.emulator.ledger.totals.opened == 2
        house.nothing_leaked()


async def test_refused_parameter(tmp_path: Path) -> None:
    """The service refuses what one leg asks for: one session, one reason, a gap; the other leg is whole."""
    refused = Failure(3006, "User Input Validation Error: keyterms_prompt: Max 100 items")
    async with rig(tmp_path, Faults(at={0: refused})) as house:
        await caller(house, "CA1").whole()
        await house.ended("CA1")
        events = house.events("CA1")
        assert house.emulator.ledger.totals.opened == 2
        end = events[-1]["data"]
        outcomes = {leg["track"]: leg["outcome"] for leg in end["legs"]}
        assert sorted(outcomes.values()) == ["complete", "refused"]
        track = next(track for track, outcome in outcomes.items() if outcome == "refused")
        why = next(leg["why"] for leg in end["legs"] if leg["track"] == track)
        assert "Max 100 items" in why
        gaps = [e["data"] for e in events if e["type"] == "audio.gap"]
        assert [(g["leg"]["track"], g["reason"]) for g in gaps] == [(track, "refused")]
        assert gaps[0]["end_ms"] - gaps[0]["start_ms"] > 5900
        other = "outbound" if track == "inbound" else "inbound"
        script = coded(SECONDS, first=0 if other == "inbound" else 40)
        said = [w["text"] for t in end["transcript"] for w in t["words"]]
        assert len(said) == len(script)


async def test_account_is_refused_and_comes_back(tmp_path: Path) -> None:
    """401 to the first two handshakes: the circuit opens, /readyz stays 200 with the reason, nothing is lost."""
    async with rig(tmp_path, Faults(refuse_handshakes=2, refuse_status=401)) as house:
        one = caller(house, "CA1")
        await one.connect()
        await one.play(1500)
        status, body = await house.get("/readyz")
        assert status == 200
        assert "401" in body
        assert await house.metric("gateway_circuit_open") == 1
        await one.play()
        await one.stop()
        await house.ended("CA1")
        check(house.events("CA1"), {"inbound": coded(SECONDS), "outbound": coded(SECONDS, first=40)})
        assert await house.metric("gateway_circuit_open") == 0
        house.nothing_leaked()


async def test_partials_beside_the_order(tmp_path: Path) -> None:
    """`turn.partial`, asked for, comes before its final and never after it; the sequence does not count it."""
    async with rig(tmp_path, webhook_events="call.started,turn.partial,turn.final,call.ended") as house:
        await caller(house, "CA1").whole()
        await house.ended("CA1")
        events = house.events("CA1")
        assert types(events)["turn.partial"] > 2
        final: set[str] = set()
        for event in events:
            if event["type"] == "turn.final":
                final.add(event["data"]["turn"]["id"])
            elif event["type"] == "turn.partial" and event["data"]["turn"]["text"]:
                assert event["data"]["turn"]["id"] not in final
        counted = [event["data"]["sequence"] for event in events if event["type"] != "turn.partial"]
        assert counted == list(range(1, len(counted) + 1))


@pytest.mark.slow
async def test_a_good_call_beside_a_flood(tmp_path: Path) -> None:
    """One socket says 60,000 messages as fast as it is read: it is read slower, not closed, and the good call is whole."""
    signature = twilio_signature(AUTH_TOKEN, f"wss{PUBLIC.removeprefix('https')}/media/twilio")
    async with rig(tmp_path) as house:

        async def flood() -> None:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                ws = await house.http.ws_connect(
                    f"{house.carriers}/media/twilio", headers={"X-Twilio-Signature": signature}, max_msg_size=0
                )
                for _ in range(60_000):
                    await ws.send_str('{"event":"mark","mark":{"name":"x"}}')

        async with asyncio.TaskGroup() as group:
            flooding = group.create_task(flood())
            group.create_task(caller(house, "CA1").whole())
            await house.ended("CA1", seconds=40)
            flooding.cancel()
        check(house.events("CA1"), {"inbound": coded(SECONDS), "outbound": coded(SECONDS, first=40)}, within_ms=150)
        assert await house.metric("gateway_ignored_total", carrier="twilio", kind="mark") < 30_000
        house.nothing_leaked()
