"""The service over a real socket: sessions, refusals, limits, the token endpoint, the routes beside it."""

import asyncio
import json
import socket
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from gateway.emulator.faults import Faults
from gateway.emulator.server import LONGEST_MESSAGE, Emulator
from gateway.emulator.tones import mulaw, pcm, script
from tests.emulator.wire import KEY, dial

AT_ONCE = Faults(begin_delay_seconds=0, speed=None)
WORDS = [spoken.word for spoken in script(10)]


async def test_a_whole_session() -> None:
    """Begin, each turn announced, said so far, ended; the last one by Terminate; revision, Termination, close 1000."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator, "sample_rate=16000&speaker_labels=true") as client:
        begin = await client.until("Begin")
        await client.speak(5.0)
        await client.terminate()
    assert client.words == [spoken.word for spoken in script(5.0)]
    assert client.kinds == [
        *("Begin", "SpeechStarted", "Turn", "Turn", "SpeechStarted", "Turn", "Turn"),
        *("SpeechStarted", "Turn", "Turn", "SpeakerRevision", "Termination"),
    ]
    assert client.messages[-1] == {"audio_duration_seconds": 5, "session_duration_seconds": 0, "type": "Termination"}
    assert (client.close_code, client.close_reason) == (1000, "Session Ended")
    [line] = emulator.sessions
    assert (line.id, line.ended, line.frames, line.audio_ms, line.turns) == (
        begin["id"],
        "client_terminate",
        50,
        5000,
        3,
    )
    assert not line.violations
    assert not line.abandoned


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_words_come_back_with_their_times(rate: int) -> None:
    """Each word is within 20 ms of where it was said."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator, f"sample_rate={rate}") as client:
        await client.until("Begin")
        await client.speak(10, rate=rate)
        await client.terminate()
        heard = emulator.sessions[0].heard
    assert [text for text, _, _ in heard] == [f"w{word}" for word in WORDS]
    for (_, start_ms, end_ms), spoken in zip(heard, script(10), strict=True):
        assert abs(start_ms - spoken.start_ms) <= 20
        assert abs(end_ms - spoken.end_ms) <= 20


async def test_mulaw() -> None:
    """`pcm_mulaw` at 8 kHz is heard as well."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator, "sample_rate=8000&encoding=pcm_mulaw") as client:
        await client.until("Begin")
        await client.play(mulaw(script(10), 10), 800)
        await client.terminate()
    assert client.words == WORDS


@pytest.mark.parametrize("query", ["encoding=opus", "sample_rate=8050"])
async def test_audio_that_is_not_decoded(query: str) -> None:
    """Opus, and PCM at a rate that the ear cannot take, are accepted, counted, and nothing is heard."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator, query) as client:
        await client.until("Begin")
        await client.play(b"opus packet")
        await client.terminate()
        assert emulator.sessions[0].bytes == 11
    assert client.kinds == ["Begin", "Termination"]


@pytest.mark.parametrize(
    ("query", "headers", "code", "text"),
    [
        ("sample_rate=7000", KEY, 3006, "User Input Validation Error: sample_rate must be at least 8,000 Hz"),
        ("", {}, 1008, "Unauthorized Connection: Missing Authorization header"),
        ("", {"Authorization": "Bearer key"}, 1008, "Unauthorized Connection: Invalid API key"),
        ("", {"Authorization": "None"}, 1008, "Unauthorized Connection: Invalid API key"),
        ("token=AQInothing", {}, 1008, "Unauthorized Connection: Invalid API key"),
    ],
)
async def test_refusals_come_after_the_upgrade(query: str, headers: dict[str, str], code: int, text: str) -> None:
    """The upgrade succeeds, then `Error` and a close with its code and the one reason."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator, query, headers) as client:
        assert await client.rest() == [{"error_code": code, "error": text, "type": "Error"}]
        assert emulator.sessions[0].ended == f"error:{code}"
    assert (client.close_code, client.close_reason) == (code, "See Error message for details")


async def test_a_token_opens_a_session_in_header_and_query() -> None:
    """Both places are read, and the token's cap becomes the session's."""
    async with Emulator(faults=AT_ONCE, keys=frozenset({"key"})) as emulator, ClientSession() as http:
        query = {"expires_in_seconds": "60", "max_session_duration_seconds": "60"}
        async with http.get(f"{emulator.http_url}/v3/token", params=query, headers=KEY) as answer:
            token = (await answer.json())["token"]
        for where, headers in (("", {"Authorization": token}), (f"token={token}", {})):
            async with dial(emulator, where, headers) as client:
                begin = await client.until("Begin")
                await client.terminate()
            assert begin["expires_at"] - int(emulator.sessions[-1].opened_at) in (58, 59)
        assert [line.authorization for line in emulator.sessions] == ["token", "token in query"]
        assert token not in json.dumps(emulator.ledger.as_json())


async def test_the_token_endpoint_refuses_as_fastapi_does() -> None:
    """422 with details; and the knob makes it fail."""
    async with Emulator() as emulator, ClientSession() as http:
        async with http.get(f"{emulator.http_url}/v3/token") as answer:
            assert answer.status == 422
            assert {tuple(detail["loc"]) for detail in (await answer.json())["detail"]} == {
                ("header", "authorization"),
                ("query", "expires_in_seconds"),
            }
        emulator.faults = Faults(token_status=503, token_delay_seconds=0.01)
        async with http.get(f"{emulator.http_url}/v3/token?expires_in_seconds=1", headers=KEY) as answer:
            assert answer.status == 503


@pytest.mark.parametrize(("deflate", "accepted"), [(False, 0), (True, 15)])
async def test_deflate_is_declined_unless_asked_for(deflate: bool, accepted: int) -> None:
    """permessage-deflate is a knob."""
    async with Emulator(faults=AT_ONCE.but(deflate=deflate)) as emulator, dial(emulator, compress=15) as client:
        assert client.socket.compress == accepted
        await client.until("Begin")
        await client.terminate()


async def test_a_message_of_128_kb_is_the_longest() -> None:
    """One byte more closes with 1009."""
    async with Emulator(faults=AT_ONCE) as emulator:
        async with dial(emulator, "sample_rate=96000") as client:
            await client.until("Begin")
            await client.socket.send_bytes(bytes(LONGEST_MESSAGE))
            await client.terminate()
            assert client.close_code == 1000
        async with dial(emulator, "sample_rate=96000") as client:
            await client.until("Begin")
            await client.socket.send_bytes(bytes(LONGEST_MESSAGE + 1))
            await client.rest()
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        assert client.close_code == 1009
        assert emulator.sessions[1].ended == "error:1009"


@pytest.mark.parametrize(
    ("raw", "code"),
    [("{", 3006), ("[]", 3006), ('{"type":"Sparkle"}', 3006), (bytes(32002), 3007)],
)
async def test_broken_input_ends_the_session_without_termination(raw: str | bytes, code: int) -> None:
    """`Error`, close, no Termination."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await (client.socket.send_str(raw) if isinstance(raw, str) else client.socket.send_bytes(raw))
        await client.rest()
    assert client.kinds == ["Begin", "Error"]
    assert client.close_code == code


async def test_force_endpoint_and_updates() -> None:
    """ForceEndpoint ends the open turn; an update changes when the next one ends."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator, "include_partial_turns=false") as client:
        await client.until("Begin")
        await client.speak(0.9)
        await client.say(type="ForceEndpoint")
        assert (await client.until("Turn"))["transcript"] == "w0 w1"
        await client.say(type="ForceEndpoint")  # without an open turn: nothing
        await client.say(min_turn_silence=3000, max_turn_silence=3000, type="UpdateConfiguration")
        await client.speak(4.0, first=10)  # its pauses are too short now
        await client.terminate()
        assert emulator.sessions[0].updates == [{"min_turn_silence": 3000, "max_turn_silence": 3000}]
    assert client.words == [0, 1, *(spoken.word for spoken in script(4.0, first=10))]
    assert client.kinds.count("Turn") == 2


async def test_heartbeats_go_on_without_audio() -> None:
    """At their pace, and from when an update asks."""
    async with Emulator(faults=AT_ONCE.but(heartbeat_seconds=0.05)) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.say(session_heartbeat=True, type="UpdateConfiguration")
        first, second = await client.until("Heartbeat"), await client.until("Heartbeat")
        assert second["total_duration_ms"] > first["total_duration_ms"] >= 50
        await client.terminate()
    assert client.close_code == 1000


async def test_silence_is_acknowledged() -> None:
    """Each second of silence is said where asked."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator, "acknowledge_silence=true") as client:
        await client.until("Begin")
        await client.play(bytes(32000 * 3))
        await client.terminate()
    assert [(m["start_ms"], m["end_ms"]) for m in client.messages if m["type"] == "Silence"] == [
        (0, 1000),
        (1000, 2000),
        (2000, 3000),
    ]


async def test_the_session_expires() -> None:
    """Two seconds after the announced end: 3008, no Termination."""
    async with Emulator(faults=AT_ONCE.but(session_seconds=-1.9)) as emulator, dial(emulator) as client:
        await client.rest()
        assert client.kinds == ["Begin", "Error"]
        assert (client.close_code, emulator.sessions[0].ended) == (3008, "max_duration")


@pytest.mark.parametrize(
    ("code", "text"),
    [(1008, "Unauthorized Connection: Too many concurrent sessions"), (3009, "Too many concurrent sessions")],
)
async def test_sessions_a_minute(code: Any, text: str) -> None:
    """One more than the account allows is refused, with either code."""
    now = 1_000_000.0
    faults = AT_ONCE.but(sessions_per_minute=1, over_limit_code=code)
    async with Emulator(faults=faults, clock=lambda: now) as emulator:
        async with dial(emulator) as client:
            await client.until("Begin")
            await client.terminate()
        async with dial(emulator) as client:
            assert (await client.rest())[0]["error"] == text
            assert client.close_code == code
        now += 60
        async with dial(emulator) as client:
            await client.until("Begin")
            await client.terminate()


@pytest.mark.parametrize(
    ("how", "ended"),
    [("close", "client_close_without_terminate"), ("abort", "abort"), ("terminate", "client_terminate")],
)
async def test_how_a_client_leaves(how: str, ended: str) -> None:
    """A close frame, or a dropped connection, without Terminate is abandonment, and the ledger says so."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator) as client:
        await client.until("Begin")
        if how == "terminate":
            await client.say(type="Terminate")
        if how == "close":
            await client.socket.close()
        else:
            transport = client.socket.get_extra_info("socket")
            transport.shutdown(socket.SHUT_RDWR)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        assert emulator.sessions[0].ended == ended
        assert emulator.sessions[0].abandoned is (how != "terminate")


async def test_backlog_is_heard_before_termination() -> None:
    """Audio sent at once is heard at the set speed: Termination waits for it."""
    async with Emulator(faults=Faults(begin_delay_seconds=0, speed=10)) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.speak(3)
        started = asyncio.get_running_loop().time()
        await client.terminate()
        assert asyncio.get_running_loop().time() - started >= 0.19  # (3 s - 1 s of credit) / 10
    assert client.words == [spoken.word for spoken in script(3)]


async def test_pings_are_answered() -> None:
    """A ping brings its pong, while the session waits for its Begin too."""
    async with Emulator(faults=AT_ONCE.but(never_begin=True)) as emulator, dial(emulator, autoping=False) as client:
        await client.socket.ping(b"here")
        message = await client.socket.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"here")


async def test_the_routes_beside_the_service() -> None:
    """Faults are set and shown, wrong ones refused, the ledger told, all of it forgotten on request."""
    async with Emulator() as emulator, ClientSession(emulator.http_url) as http:
        async with http.post("/faults", json={"begin_delay_seconds": 0, "at": {"1": {"second": 1}}}) as answer:
            assert answer.status == 200
        async with http.get("/faults") as answer:
            assert (await answer.json())["at"] == {"1": {"second": 1.0, "how": "rst", "code": 1000}}
        for wrong in ('{"sparkle": 1}', "{", "[1]"):
            async with http.post("/faults", data=wrong) as answer:
                assert answer.status == 422
        async with dial(emulator) as client:
            await client.until("Begin")
            await client.terminate()
        async with http.get("/ledger") as answer:
            ledger = await answer.json()
        assert (ledger["totals"]["terminated"], ledger["sessions"][0]["ended"]) == (1, "client_terminate")
        async with http.post("/reset") as answer:
            assert answer.status == 200
        assert emulator.sessions == []
        assert emulator.faults == Faults()


async def test_a_handshake_that_is_none_is_refused() -> None:
    """A plain GET on the WebSocket route is a bad request and no session."""
    async with Emulator() as emulator, ClientSession() as http:
        async with http.get(f"{emulator.http_url}/v3/ws", headers=KEY) as answer:
            assert answer.status == 400
        assert emulator.sessions == []


async def test_waiting_for_what_does_not_come_says_how_things_stand() -> None:
    """The time-out's message holds the totals."""
    async with Emulator() as emulator:
        with pytest.raises(TimeoutError, match="sessions opened 0"):
            await emulator.wait(lambda: emulator.ledger.totals.opened == 1, timeout=0.01)


async def test_leaving_drops_what_is_open() -> None:
    """An emulator that goes down leaves no client waiting."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await emulator.__aexit__()
        await client.rest()
        assert client.close_code == 1006
    assert emulator.sessions[0].ended == "fault:stopped"


async def test_connections_can_be_refused() -> None:
    """Between `refuse_connections` and `listen` nobody listens; then the same port does again."""
    async with Emulator(faults=AT_ONCE) as emulator:
        port = emulator.port
        await emulator.refuse_connections()
        with pytest.raises(OSError, match="Cannot connect"):
            async with dial(emulator):
                pass
        await emulator.listen()
        assert emulator.port == port
        async with dial(emulator) as client:
            await client.until("Begin")
            await client.terminate()


async def test_refused_handshakes_are_counted() -> None:
    """So many handshakes get their status, the next one a session that is number 0."""
    async with Emulator(faults=AT_ONCE.but(refuse_handshakes=2, refuse_status=429)) as emulator:
        for _ in range(2):
            with pytest.raises(WSServerHandshakeError) as refusal:
                async with dial(emulator):
                    pass
            assert refusal.value.status == 429
        async with dial(emulator) as client:
            await client.until("Begin")
            await client.terminate()
        assert emulator.ledger.totals.refused_handshakes == 2
        assert emulator.sessions[0].number == 0


async def test_pcm_in_odd_pieces() -> None:
    """Frames that split a sample are noted, and still heard."""
    audio = pcm(script(2), 2, 16000)
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.play(audio, 3201)
        await client.terminate()
        assert emulator.sessions[0].violations["half a sample"] > 0
    assert client.words == [spoken.word for spoken in script(2)]
