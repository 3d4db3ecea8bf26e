"""Each fault, as a client meets it: what arrives, how the connection ends, and what the ledger says."""

import asyncio
import contextlib
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientError, WSMsgType, WSServerHandshakeError

from gateway.emulator.faults import Cut, Failure, Faults, How
from gateway.emulator.messages import MALFORMED
from gateway.emulator.server import Emulator
from gateway.emulator.tones import script
from tests.emulator.wire import dial

AT_ONCE = Faults(begin_delay_seconds=0, speed=None)


async def no_session(emulator: Emulator) -> int:
    """The status of a handshake that is refused; 0 where none came."""
    try:
        async with dial(emulator):
            raise AssertionError("a session was opened")
    except WSServerHandshakeError as refusal:
        return refusal.status
    except ClientError:
        return 0


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 0])
async def test_refused_handshakes(status: int) -> None:
    """Any status instead of the upgrade, or a reset before any answer (after which aiohttp's client tries once more)."""
    async with Emulator(faults=AT_ONCE.but(refuse_handshakes=2, refuse_status=status)) as emulator:
        assert await no_session(emulator) == status
        assert emulator.sessions == []


@pytest.mark.parametrize(
    ("how", "code", "seen"),
    [("rst", 1000, 1006), ("fin", 1000, 1006), ("close", 1000, 1000), ("close", 1001, 1001), ("close", 1011, 1011)],
)
async def test_cuts(how: How, code: int, seen: int) -> None:
    """A cut at an audio second: reset, FIN, or a close frame with any code, never a Termination; only where asked."""
    faults = AT_ONCE.but(at={1: Cut(second=2, how=how, code=code)})
    async with Emulator(faults=faults) as emulator:
        async with dial(emulator) as client:
            await client.until("Begin")
            await client.speak(3)
            await client.terminate()
            assert client.close_code == 1000
        async with dial(emulator) as client:
            await client.until("Begin")
            try:
                await client.speak(3)
                await client.rest()
                assert client.close_code == seen
            except ClientConnectionError:
                assert how == "rst"
            assert "Termination" not in client.kinds
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        line = emulator.sessions[1]
        assert (line.ended, line.audio_ms, line.abandoned) == ("fault:cut", 2000, False)


async def test_a_cut_right_after_begin() -> None:
    """Second 0 needs no audio."""
    async with (
        Emulator(faults=AT_ONCE.but(cut=Cut(second=0, how="close", code=1012))) as emulator,
        dial(emulator) as client,
    ):
        await client.rest()
    assert (client.kinds, client.close_code) == (["Begin"], 1012)


async def test_an_outage_follows_a_cut() -> None:
    """After a cut every handshake is refused for a while."""
    now = 1_000_000.0
    faults = AT_ONCE.but(at={0: Cut(second=0)}, outage_seconds=15)
    async with Emulator(faults=faults, clock=lambda: now) as emulator:
        async with dial(emulator) as client:
            await client.rest()
        assert await no_session(emulator) == 503
        now += 14.9
        assert await no_session(emulator) == 503
        now += 0.2
        async with dial(emulator) as client:
            await client.until("Begin")
            await client.terminate()


async def test_late_upgrades_and_late_begins() -> None:
    """Both delays are waited for."""
    async with Emulator(faults=Faults(upgrade_delay_seconds=0.1, begin_delay_seconds=0.1)) as emulator:
        clock = asyncio.get_running_loop().time
        started = clock()
        async with dial(emulator) as client:
            assert clock() - started >= 0.099
            await client.until("Begin")
            assert clock() - started >= 0.198
            await client.terminate()


async def test_a_begin_that_never_comes() -> None:
    """The client leaves without a word, and is not to blame."""
    async with Emulator(faults=AT_ONCE.but(never_begin=True)) as emulator:
        async with dial(emulator) as client:
            await client.speak(1)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        line = emulator.sessions[0]
        assert (line.ended, line.abandoned) == ("fault:never_begin", False)
        assert line.violations == {"audio before Begin": 10}


@pytest.mark.parametrize("second", [None, 1.0])
@pytest.mark.parametrize("code", [1008, 1011, 3005, 3006, 3007, 3008, 3009])
async def test_failures(code: int, second: float | None) -> None:
    """`Error` before Begin or at an audio second, its code again in the close frame, no Termination."""
    faults = AT_ONCE.but(failure=Failure(code=code, text="it broke", second=second))
    async with Emulator(faults=faults) as emulator, dial(emulator) as client:
        if second is not None:
            await client.until("Begin")
            await client.speak(1)
        await client.rest()
        assert emulator.sessions[0].ended == f"error:{code}"
    assert client.kinds == (["Error"] if second is None else ["Begin", "Error"])
    assert client.messages[-1] == {"error_code": code, "error": "it broke", "type": "Error"}
    assert (client.close_code, client.close_reason) == (code, "See Error message for details")


async def test_a_black_hole() -> None:
    """From the second on nothing comes: no turn, no heartbeat, no pong, no answer to Terminate or to a close."""
    faults = AT_ONCE.but(black_hole_second=1, heartbeat_seconds=0.02)
    async with Emulator(faults=faults) as emulator, dial(emulator, "session_heartbeat=1", autoping=False) as client:
        await client.until("Heartbeat")
        await client.speak(3)
        await client.socket.ping()
        await client.say(type="Terminate")
        after = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while True:
                    after.append(await client.socket.receive())
        assert all(message.type is WSMsgType.TEXT and "Heartbeat" in message.data for message in after)
        assert len(after) < 5
        assert emulator.sessions[0].audio_ms == 1000
        assert emulator.ledger.totals.open == 1
        sock = client.socket.get_extra_info("socket")
        sock.shutdown(2)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        line = emulator.sessions[0]
        assert (line.ended, line.abandoned) == ("fault:black_hole", False)


async def test_a_stall() -> None:
    """Reading stops, so that the client's sending does too in time; heartbeats go on, and count no more audio."""
    faults = AT_ONCE.but(stall_second=1, heartbeat_seconds=0.02)
    async with Emulator(faults=faults) as emulator:
        async with dial(emulator, "session_heartbeat=1") as client:
            await client.until("Begin")
            await client.speak(1)
            while (await client.until("Heartbeat"))["total_audio_received_ms"] < 1000:
                pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5) as patience:
                    while True:
                        await client.socket.send_bytes(bytes(32000))
            assert patience.expired()
            assert (await client.until("Heartbeat"))["total_audio_received_ms"] == 1000
            client.socket.get_extra_info("socket").shutdown(2)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        assert (emulator.sessions[0].ended, emulator.sessions[0].audio_ms) == ("fault:stall", 1000)


async def test_terminate_is_never_acknowledged() -> None:
    """Silence after Terminate; the client's close ends it, and the client is not to blame."""
    async with Emulator(faults=AT_ONCE.but(never_acknowledge_terminate=True)) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.speak(0.5)
        await client.say(type="Terminate")
        await emulator.wait(lambda: emulator.sessions[0].terminated_at is not None)
        await client.socket.close()
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        assert client.kinds == ["Begin"]
        line = emulator.sessions[0]
        assert (line.ended, line.abandoned) == ("fault:never_acknowledge_terminate", False)


async def test_a_late_termination() -> None:
    """The last turn comes at once, Termination later."""
    async with Emulator(faults=AT_ONCE.but(termination_delay_seconds=0.1)) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.speak(0.5)
        await client.say(type="Terminate")
        await client.until("Turn")
        clock = asyncio.get_running_loop().time
        turned = clock()
        await client.rest()
        assert clock() - turned >= 0.099
    assert client.kinds[-1] == "Termination"


@pytest.mark.parametrize(("how", "seen"), [("rst", 1006), ("fin", 1006), ("close", 1000)])
async def test_a_drop_after_terminate(how: How, seen: int) -> None:
    """No last turn, no Termination."""
    async with Emulator(faults=AT_ONCE.but(drop_after_terminate=how)) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.speak(0.5)
        await client.terminate()
        assert client.close_code == seen
        assert client.kinds == ["Begin"]
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        assert emulator.sessions[0].ended == "fault:drop_after_terminate"


async def test_malformed_messages() -> None:
    """Every kind comes, between true messages of which none is missing."""
    faults = AT_ONCE.but(malformed=tuple(MALFORMED))
    async with Emulator(faults=faults) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.speak(12)
        await client.terminate()
    assert client.words == [spoken.word for spoken in script(12)]
    assert b"\x00\xffnot text" in client.messages
    assert MALFORMED["not_json"] in client.messages
    assert [1, "Turn", None] in client.messages
    assert "Sparkle" in client.kinds
    assert isinstance(client.messages[-1]["session_duration_seconds"], float)


async def test_spoilt_finals() -> None:
    """Duplicates, padding, fillers and empty finals cost no word."""
    faults = AT_ONCE.but(huge_turn_words=20_000, pad_end_ms=1300, early_start_ms=300, empty_final=True)
    async with Emulator(faults=faults) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.speak(4)
        await client.terminate()
    assert client.words == [spoken.word for spoken in script(4)]
    finals: list[Any] = [m for m in client.messages if m.get("end_of_turn")]
    assert len(finals[0]["words"]) == 20_004
    assert finals[-1]["words"] == []
    async with Emulator(faults=AT_ONCE.but(duplicate_final=True)) as emulator, dial(emulator) as client:
        await client.until("Begin")
        await client.speak(2)
        await client.terminate()
    finals = [m for m in client.messages if m.get("end_of_turn")]
    assert finals[0] == finals[1]


async def test_a_revision_out_of_order() -> None:
    """It comes before the last final and once more after it."""
    faults = AT_ONCE.but(unordered_revision=True, pending_below_ms=5000)
    async with Emulator(faults=faults) as emulator, dial(emulator, "speaker_labels=true") as client:
        await client.until("Begin")
        await client.speak(3)
        await client.terminate()
    assert client.kinds[-5:] == ["SpeakerRevision", "SpeechStarted", "Turn", "SpeakerRevision", "Termination"]


async def test_new_faults_hold_for_new_sessions() -> None:
    """Replacing the knobs leaves an open session as it was."""
    async with Emulator(faults=AT_ONCE) as emulator, dial(emulator) as first:
        await first.until("Begin")
        emulator.faults = AT_ONCE.but(cut=Cut(second=0))
        async with dial(emulator) as second:
            await second.rest()
        await first.speak(1)
        await first.terminate()
        assert [line.ended for line in emulator.sessions] == ["client_terminate", "fault:cut"]
