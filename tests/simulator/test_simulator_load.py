"""Many calls at once, against a stand-in for a gateway that hears what it is told to hear."""

import asyncio
import base64
import json
import time
from collections import defaultdict
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web
from rich.console import Console
from standardwebhooks.webhooks import Webhook

from gateway.audio import g711
from gateway.emulator.tones import Ear, spelled
from gateway.simulator import audio, load, report
from gateway.simulator.frames import CarrierFaults, HangUp
from gateway.simulator.handshake import Secrets
from gateway.simulator.load import Plan, Tally
from gateway.simulator.receiver import Receiver


class StandIn:
    """Hears coded speech itself and sends a turn for each leg. `forget` words are left out; `refuse` is a status."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.forget = 0
        self.refuse: int | None = None
        self.most_at_once = 0
        self._at_once = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/media/twilio", self._media)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"ws://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _media(self, request: web.Request) -> web.StreamResponse:
        if self.refuse is not None:
            return web.Response(status=self.refuse)
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        tracks: dict[str, bytes] = defaultdict(bytes)
        call_id = ""
        async for message in ws:
            said = json.loads(message.data)
            if said["event"] == "start":
                call_id = said["start"]["callSid"]
            elif said["event"] == "media":
                tracks[said["media"]["track"]] += base64.b64decode(said["media"]["payload"])
        self._at_once -= 1
        await self._tell(call_id, tracks)
        return ws

    async def _tell(self, call_id: str, tracks: dict[str, bytes]) -> None:
        turns = []
        for track, mulaw in tracks.items():
            ear = Ear()
            heard = [*ear.feed(g711.decode(mulaw, "PCMU")), *ear.flush()][self.forget :]
            words = [{"text": spelled(word.word), "start_ms": word.start_ms} for word in heard]
            turn = {"id": f"{track}-0", "index": 0, "text": "", "start_ms": 0, "end_ms": 0, "words": words}
            turns.append({"leg": {"track": track, "party": track}, "turn": turn})
        events: list[tuple[str, dict[str, Any]]] = [
            ("call.started", {}),
            *(("turn.final", turn) for turn in turns),
            ("call.ended", {"transcript": [turn["turn"] for turn in turns], "cost_usd": 0.01}),
        ]
        async with aiohttp.ClientSession() as http:
            for sequence, (kind, data) in enumerate(events, 1):
                whole = {"type": kind, "timestamp": "", "data": {"call": {"id": call_id}, "sequence": sequence, **data}}
                body, webhook_id, now = json.dumps(whole), f"msg_{call_id}_{sequence}", datetime.now(UTC)
                headers = {
                    "webhook-id": webhook_id,
                    "webhook-timestamp": str(int(now.timestamp())),
                    "webhook-signature": Webhook(self._receiver.secret).sign(webhook_id, now, body),
                }
                async with http.post(self._receiver.url, data=body, headers=headers) as answer:
                    assert answer.status == 204


def plan(stand_in: StandIn, **more: Any) -> Plan:
    """Short calls."""
    options: dict[str, Any] = {
        "rate": 1000.0,
        "sound": lambda number: audio.coded(1.0, number),
        "secrets": Secrets(),
        **more,
    }
    return Plan(base=stand_in.base, **options)


async def test_each_word_of_each_call_is_counted() -> None:
    """Three calls at once: all words heard, all ends come, all as promised."""
    tally = Tally()
    async with Receiver() as receiver, StandIn(receiver) as stand_in:
        await load.run(plan(stand_in, calls=3), tally, receiver)
        assert stand_in.most_at_once == 3
        assert not receiver.calls  # what was counted is forgotten
    assert (tally.started, tally.played, tally.ended, tally.events, tally.running) == (3, 3, 3, 12, 0)
    spoken = sum(len(words) for number in range(3) for words in audio.coded(1.0, number).words.values())
    assert tally.words.spoken == tally.words.heard == spoken
    assert tally.worst_ms <= 20
    assert tally.cost_usd == pytest.approx(0.03)
    assert tally.well
    assert tally.troubles == []


async def test_a_lost_word_is_noticed() -> None:
    """On each leg one, said with its call."""
    tally = Tally()
    async with Receiver() as receiver, StandIn(receiver) as stand_in:
        stand_in.forget = 1
        await load.run(plan(stand_in), tally, receiver)
    assert tally.words.lost == 2
    assert not tally.well
    assert "1 lost" in tally.troubles[0]


async def test_a_hang_up_in_mid_word_loses_no_other_word() -> None:
    """The word that was cut is no loss, every one before it is counted."""
    tally = Tally()
    async with Receiver() as receiver, StandIn(receiver) as stand_in:
        cut = plan(stand_in, faults=CarrierFaults(hang_up=HangUp(0.6, "abort")), mid_word=True)
        await load.run(cut, tally, receiver)
    assert tally.well
    assert 0 < tally.words.spoken < sum(map(len, audio.coded(1.0).words.values()))


async def test_calls_are_kept_up_for_a_time() -> None:
    """As one ends another begins, never more than wanted at once."""
    tally = Tally()
    async with Receiver() as receiver, StandIn(receiver) as stand_in:
        short = plan(stand_in, calls=2, lasting_seconds=0.9, sound=lambda number: audio.coded(0.4, number))
        began = time.monotonic()
        await load.run(short, tally, receiver)
        assert time.monotonic() - began < 5
        assert stand_in.most_at_once <= 3  # the far side may see an end after the next beginning
    assert 4 <= tally.started <= 8
    assert tally.played == tally.ended == tally.started


async def test_new_calls_come_at_the_rate() -> None:
    """Five at 20 a second take a fifth of a second to begin."""
    tally = Tally()
    async with Receiver() as receiver, StandIn(receiver) as stand_in:
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(
                load.run(plan(stand_in, calls=5, rate=20.0, sound=lambda _: audio.coded(0.1)), tally, receiver)
            )
        assert time.monotonic() - began >= 0.3
    assert tally.played == 5


async def test_a_refused_call_is_told() -> None:
    """And not waited for."""
    tally = Tally()
    async with Receiver() as receiver, StandIn(receiver) as stand_in:
        stand_in.refuse = 403
        await load.run(plan(stand_in), tally, receiver)
    assert (tally.refused, tally.played, tally.ended) == (1, 0, 0)
    assert "HTTP 403" in tally.troubles[0]


async def test_the_report_says_it_all() -> None:
    """What was counted, in words and as data; what is not as promised is red."""
    tally = Tally(started=2, played=1, lost=1, ended=1, counted=True, troubles=["CA1: nobody answered"])
    ledger = {"opened": 2, "terminated": 1, "abandoned": 1, "open": 0, "billed_seconds": 3.0}
    made = report.made(tally, "twilio", 3.0, received=True, unsigned=2, figures=None, ledger=ledger)
    assert not made.well
    assert made.troubles == (
        "CA1: nobody answered",
        "2 webhooks with a wrong signature",
        "sessions abandoned: 1, still open: 0",
    )

    screen = StringIO()
    report.show(made, Console(file=screen, width=200))
    text = screen.getvalue()
    assert "1 of 2 played to their end, 1 cut by the gateway" in text
    assert "opened 2, terminated 1, abandoned 1" in text
    assert text.rstrip().endswith("NOT as promised")
    assert "1 not as promised" in report.line(tally, 3.0)
