"""Whole coded calls over each carrier and format, word for word."""

import asyncio
from pathlib import Path

from gateway.audio import g711
from gateway.emulator import tones
from tests.whole.rig import PUBLIC, TELNYX_TOKEN, Caller, TelnyxCaller, check, coded, rig, speak, types, words

SECONDS = 7.0
IN, OUT = coded(SECONDS), coded(SECONDS, first=40, start_ms=700)


def tracks() -> dict[str, bytes]:
    return {"inbound": speak(IN, SECONDS), "outbound": speak(OUT, SECONDS)}


def alaw() -> dict[str, bytes]:
    return {track: g711.encode_alaw(g711.decode(audio, "PCMU")) for track, audio in tracks().items()}


class SignalWireCaller(Caller):
    """Twilio's shape with a bearer token and without a `stop` body."""

    async def connect(self, path: str = "/media/signalwire") -> None:
        self.ws = await self.rig.http.ws_connect(
            self.rig.carriers + path, headers={"Authorization": f"Bearer {TELNYX_TOKEN}"}, max_msg_size=0
        )
        start = {
            "accountSid": "AC1",
            "streamSid": self.stream_id,
            "callSid": self.call_id,
            "tracks": list(self.tracks),
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }
        await self.send({"event": "start", "sequenceNumber": 1, "start": start, "streamSid": self.stream_id})

    async def stop(self) -> None:
        await self.send({"event": "stop", "streamSid": self.stream_id})
        assert self.ws is not None
        await self.ws.close()


async def test_every_carrier_and_format(tmp_path: Path) -> None:
    """Telnyx in order, shuffled in odd sizes, A-law, numbered from anywhere; SignalWire: each call word for word."""
    async with rig(tmp_path) as house:
        callers = [
            TelnyxCaller(house, "v3:plain", tracks()),
            TelnyxCaller(house, "v3:shuffled", tracks(), overtake=12, sizes=(160, 240, 80, 333, 17)),
            TelnyxCaller(house, "v3:alaw", alaw(), encoding="PCMA", overtake=4),
            TelnyxCaller(house, "v3:high", tracks(), first_chunk=4711),
            SignalWireCaller(house, "SW1", tracks()),
        ]
        await asyncio.gather(*(one.whole() for one in callers))
        await house.ended(*(one.call_id for one in callers))
        for one in callers:
            events = house.events(one.call_id)
            check(events, {"inbound": IN, "outbound": OUT})
            assert types(events)["audio.gap"] == 0, one.call_id
        assert house.events("v3:plain")[0]["data"]["call"]["from"] == "+13122010094"
        assert house.events("SW1")[0]["data"]["call"]["carrier"] == "signalwire"
        assert house.emulator.ledger.totals.opened == 2 * len(callers)
        house.nothing_leaked()


async def test_mulaw_passthrough(tmp_path: Path) -> None:
    """A profile may send mu-law as it came, 8 kHz; A-law becomes mu-law; 16-bit at 8 kHz works as well."""
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[profiles.default.inbound]\nparty = "customer"\naudio = "mulaw"\n'
        "[profiles.default.outbound.speech]\nsample_rate = 8000\n",
        encoding="utf-8",
    )
    async with rig(tmp_path, config=config) as house:
        callers = [
            Caller(house, "CA1", tracks()),
            TelnyxCaller(house, "v3:alaw", alaw(), encoding="PCMA"),
        ]
        await asyncio.gather(*(one.whole() for one in callers))
        await house.ended(*(one.call_id for one in callers))
        for one in callers:
            check(house.events(one.call_id), {"inbound": IN, "outbound": OUT})
        asked = {(s.parameters.encoding, str(s.parameters.sample_rate)) for s in house.emulator.ledger.sessions}
        assert asked == {("pcm_mulaw", "8000"), ("pcm_s16le", "8000")}
        assert {leg["party"] for leg in house.events("CA1")[0]["data"]["legs"]} == {"customer", "outbound"}
        house.nothing_leaked()


async def test_telnyx_reconnect(tmp_path: Path) -> None:
    """Telnyx opens a second stream of a call while the first still stands: the newer takes over, it stays one call."""
    async with rig(tmp_path) as house:
        older = TelnyxCaller(house, "v3:1", tracks())
        await older.connect()
        await older.play(3000)
        newer = TelnyxCaller(house, "v3:1", {"inbound": speak(coded(4.0, first=100), 4.0)}, stream_id="second")
        await newer.whole()
        await house.ended("v3:1")
        events = house.events("v3:1")
        assert types(events)["call.started"] == types(events)["call.ended"] == 1
        heard = [text for text, _ in words(events, "inbound")]
        expected = [s for s in IN if s.end_ms <= 3000] + coded(4.0, first=100)
        assert heard == [tones.spelled(spoken.word) for spoken in expected]
        assert older.ws is not None
        assert (await older.ws.receive()).data == 1000
        house.nothing_leaked()


async def test_what_is_refused(tmp_path: Path) -> None:
    """A format that would be garbage, a second call on one socket, no `start`: the socket is closed with a code that says why."""
    async with rig(tmp_path) as house:
        wideband = TelnyxCaller(house, "v3:wide", {}, encoding="L16")
        await wideband.connect()
        assert wideband.ws is not None
        closed = await wideband.ws.receive()
        assert closed.data == 1003
        assert "format" in str(closed.extra)
        two = Caller(house, "CA1", {"inbound": b""})
        await two.connect()
        two.call_id = "CA2"
        assert two.ws is not None
        start = {"callSid": "CA2", "streamSid": "MZ9", "tracks": ["inbound"]}
        format_ = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        await two.send({"event": "start", "start": start | {"mediaFormat": format_}, "streamSid": "MZ9"})
        assert (await two.ws.receive()).data == 1008
        silent = await house.http.ws_connect(
            f"{house.carriers}/media/telnyx", headers={"x-telnyx-streaming-auth-token": TELNYX_TOKEN}
        )
        closed = await asyncio.wait_for(silent.receive(), 7)
        assert (closed.data, closed.extra) == (1008, "no start")
        await house.ended("CA1")


async def test_webhook_ends_a_call_whose_socket_never_closed(tmp_path: Path) -> None:
    """The carrier's status callback ends the call after its last audio was given time to arrive."""
    from gateway.media.proof import twilio_signature  # noqa: PLC0415
    from tests.whole.rig import AUTH_TOKEN  # noqa: PLC0415

    async with rig(tmp_path) as house:
        script = coded(3.0)
        one = Caller(house, "CA1", {"inbound": speak(script, 3.0)})
        await one.connect()
        await one.play()
        form = {"CallSid": "CA1", "StreamSid": "MZ1", "StreamEvent": "stream-stopped"}
        text = f"{PUBLIC}/twilio/stream-status" + "".join(key + form[key] for key in sorted(form))
        url = house.carriers.replace("ws", "http", 1) + "/twilio/stream-status"
        async with house.http.post(
            url, data=form, headers={"X-Twilio-Signature": twilio_signature(AUTH_TOKEN, text)}
        ) as answer:
            assert answer.status == 204
        await house.ended("CA1", seconds=10)
        events = house.events("CA1")
        check(events, {"inbound": script})
        assert events[-1]["data"]["reason"] == "carrier_event"
        house.nothing_leaked()


async def test_voice_webhook_to_stream(tmp_path: Path) -> None:
    """`/twilio/voice` answers TwiML whose path token admits the stream of its call, and of no other."""
    from xml.etree import ElementTree as ET  # noqa: PLC0415

    from gateway.media.proof import twilio_signature  # noqa: PLC0415
    from tests.whole.rig import AUTH_TOKEN  # noqa: PLC0415

    async with rig(tmp_path) as house:
        form = {"CallSid": "CA1", "From": "+13125550100", "To": "+13125550199", "Direction": "inbound"}
        text = f"{PUBLIC}/twilio/voice" + "".join(key + form[key] for key in sorted(form))
        url = house.carriers.replace("ws", "http", 1) + "/twilio/voice"
        async with house.http.post(
            url, data=form, headers={"X-Twilio-Signature": twilio_signature(AUTH_TOKEN, text)}
        ) as answer:
            markup = ET.fromstring(await answer.read())
        stream = markup.find("./Start/Stream")
        assert stream is not None
        path = stream.attrib["url"].removeprefix(PUBLIC.replace("https", "wss"))
        parameters = {p.attrib["name"]: p.attrib["value"] for p in stream.findall("Parameter")}
        script = coded(3.0)
        one = Caller(house, "CA1", {"inbound": speak(script, 3.0)}, parameters=parameters)
        await one.connect(path)
        await one.play()
        await one.stop()
        await house.ended("CA1")
        events = house.events("CA1")
        check(events, {"inbound": script})
        call = events[0]["data"]["call"]
        assert (call["from"], call["to"], call["profile"]) == ("+13125550100", "+13125550199", "default")
        thief = Caller(house, "CA2", {"inbound": b""})
        await thief.connect(path)
        assert thief.ws is not None
        assert (await thief.ws.receive()).data == 1008
