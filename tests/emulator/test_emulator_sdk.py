"""The SDK's own streaming client against the emulator: what it understands is what the live service says."""

from typing import Any

import pytest
from aiohttp import ClientSession
from assemblyai.streaming.v3 import (
    BeginEvent,
    Encoding,
    HeartbeatEvent,
    RealTimeError,
    RealTimeEvents,
    RealTimeParameters,
    RealTimeSessionParameters,
    RealTimeTranscriberOptions,
    SilenceEvent,
    SpeakerRevisionEvent,
    SpeechModel,
    SpeechStartedEvent,
    TerminationEvent,
    TurnEvent,
)
from assemblyai.streaming.v3.async_client import AsyncRealTimeTranscriber

from gateway.emulator.faults import Cut, Failure, Faults
from gateway.emulator.server import Emulator
from gateway.emulator.tones import mulaw, pcm, read, script

# The SDK reads `ConnectionClosed.code` and `.reason`, which websockets deprecates: as errors, these warnings keep the SDK
# from reporting any close at all.
pytestmark = pytest.mark.filterwarnings("ignore:ConnectionClosed.(code|reason) is deprecated:DeprecationWarning")

AT_ONCE = Faults(begin_delay_seconds=0, speed=None)


class Caller:
    """The SDK's client, with every event it dispatches in order."""

    def __init__(self, emulator: Emulator, **options: Any) -> None:
        if "token" not in options:
            options["api_key"] = "key"
        self.sdk = AsyncRealTimeTranscriber(
            RealTimeTranscriberOptions(api_host=emulator.url, connect_timeout=5, max_connection_retries=0, **options)
        )
        self.events: list[Any] = []
        for event in RealTimeEvents:
            self.sdk.on(event, lambda _, message: self.events.append(message))

    async def call(self, audio: bytes, size: int = 3200, **parameters: Any) -> None:
        """A session from connect to disconnect."""
        parameters = {"sample_rate": 16000, "encoding": Encoding.pcm_s16le, **parameters}
        await self.sdk.connect(RealTimeParameters(speech_model=SpeechModel.universal_3_5_pro, **parameters))
        for at in range(0, len(audio), size):
            await self.sdk.stream(audio[at : at + size])
        await self.sdk.disconnect(terminate=True)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def words(self) -> list[int]:
        return [word for turn in self.of(TurnEvent) if turn.end_of_turn for word in read(turn.transcript)]


async def test_a_plain_session() -> None:
    """Begin, SpeechStarted, partials, finals with labels, a revision, Termination: all of it parsed by the SDK."""
    spoken = script(11)
    async with Emulator(faults=AT_ONCE) as emulator:
        caller = Caller(emulator)
        await caller.call(pcm(spoken, 11, 16000), speaker_labels=True, voice_focus="far-field", inactivity_timeout=60)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        totals, line = emulator.ledger.totals, emulator.sessions[0]
    assert caller.words == [word.word for word in spoken]
    [begin] = caller.of(BeginEvent)
    assert (begin.id, begin.configuration.model) == (line.id, "universal-3-5-pro")
    assert isinstance(caller.events[0], BeginEvent)
    finals = [turn for turn in caller.of(TurnEvent) if turn.end_of_turn]
    partials = [turn for turn in caller.of(TurnEvent) if not turn.end_of_turn]
    assert [turn.turn_order for turn in finals] == list(range(6))
    assert [turn.speaker_label for turn in finals] == ["A", "A", "A", "A", "A", "PENDING"]
    assert {turn.speaker_label for turn in partials} == {None}
    assert len(caller.of(SpeechStartedEvent)) == 6
    revision, termination = caller.events[-2:]
    assert isinstance(revision, SpeakerRevisionEvent)
    assert [(item.turn_order, item.speaker_label) for item in revision.revisions] == [(5, "A")]
    assert isinstance(termination, TerminationEvent)
    assert termination.audio_duration_seconds == 11
    assert caller.of(RealTimeError) == []
    assert (totals.opened, totals.terminated, totals.abandoned) == (1, 1, 0)
    assert line.parameters.unknown == {}


async def test_mulaw_without_labels() -> None:
    """`pcm_mulaw` at 8 kHz; no label, no revision."""
    spoken = script(5, repeat=3)
    async with Emulator(faults=AT_ONCE) as emulator:
        caller = Caller(emulator)
        await caller.call(mulaw(spoken, 5), 800, sample_rate=8000, encoding=Encoding.pcm_mulaw)
    assert caller.words == [word.word for word in spoken]
    assert {turn.speaker_label for turn in caller.of(TurnEvent)} == {None}
    assert caller.of(SpeakerRevisionEvent) == []


async def test_heartbeats_silence_updates_and_force() -> None:
    """The rest of the protocol, spoken by the SDK."""
    async with Emulator(faults=AT_ONCE.but(heartbeat_seconds=0.02)) as emulator:
        caller = Caller(emulator)
        wanted: dict[str, Any] = {"sample_rate": 16000, "session_heartbeat": True, "acknowledge_silence": True}
        await caller.sdk.connect(RealTimeParameters(**wanted))
        await caller.sdk.set_params(RealTimeSessionParameters(keyterms_prompt=["Northwind"], vad_threshold=0.3))
        await caller.sdk.keep_alive()
        for at in range(0, 32000, 3200):
            await caller.sdk.stream(pcm(script(1), 1, 16000)[at : at + 3200])
        await caller.sdk.force_endpoint()
        for _ in range(15):
            await caller.sdk.stream(bytes(3200))
        await emulator.wait(lambda: emulator.sessions[0].audio_ms == 2500)
        await caller.sdk.disconnect(terminate=True)
        line = emulator.sessions[0]
        assert line.updates == [{"keyterms_prompt": ["Northwind"], "vad_threshold": 0.3}]
        assert line.keepalives == 1
    assert caller.words == [0, 1, 2][: len(caller.words)]
    assert len(caller.words) >= 2
    assert caller.of(SilenceEvent)
    assert caller.of(RealTimeError) == []


async def test_all_ten_events() -> None:
    """Warning and LLMGatewayResponse too, where the knob asks for what few sessions see."""
    faults = AT_ONCE.but(extras=True, heartbeat_seconds=0.02, termination_delay_seconds=0.1)
    async with Emulator(faults=faults) as emulator:
        caller = Caller(emulator)
        audio = pcm(script(1), 3, 16000)
        await caller.call(audio, speaker_labels=True, session_heartbeat=True, acknowledge_silence=True)
    seen = {type(event).__name__.removesuffix("Event") for event in caller.events}
    assert seen == {
        *("Begin", "SpeechStarted", "Turn", "Silence", "Heartbeat"),
        *("Warning", "LLMGatewayResponse", "SpeakerRevision", "Termination"),
    }  # the tenth is Error, after which nothing comes


async def test_heartbeats_are_parsed() -> None:
    """Three numbers and a probability."""
    async with Emulator(faults=AT_ONCE.but(heartbeat_seconds=0.02, termination_delay_seconds=0.1)) as emulator:
        caller = Caller(emulator)
        await caller.call(bytes(32000), session_heartbeat=True)
    assert caller.of(HeartbeatEvent)[0].total_audio_received_ms == 1000


async def test_a_temporary_token() -> None:
    """Minted over HTTP (the SDK's own call insists on https), sent by the SDK in its header."""
    async with Emulator(faults=AT_ONCE, keys=frozenset({"key"})) as emulator:
        async with (
            ClientSession() as http,
            http.get(
                f"{emulator.http_url}/v3/token",
                params={"expires_in_seconds": "60", "max_session_duration_seconds": "120"},
                headers={"Authorization": "key"},
            ) as answer,
        ):
            token = (await answer.json())["token"]
        caller = Caller(emulator, token=token)
        await caller.call(bytes(32000))
        line = emulator.sessions[0]
        assert (line.authorization, line.ended) == ("token", "client_terminate")
        assert line.expires_at is not None
        assert 117 <= line.expires_at - line.opened_at <= 118


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        (AT_ONCE.but(refuse_handshakes=1, refuse_status=403), 403),
        (AT_ONCE.but(failure=Failure(code=1008, text="Unauthorized Connection: insufficient balance")), 1008),
        (AT_ONCE.but(failure=Failure(code=3005, text="Session Cancelled: An error occurred", second=0.5)), 3005),
        (AT_ONCE.but(cut=Cut(second=0.5, how="close", code=1011)), 1011),
        (AT_ONCE.but(cut=Cut(second=0.5, how="fin")), 1006),
    ],
)
async def test_errors_reach_the_sdk(faults: Faults, code: int) -> None:
    """Refusals, `Error` messages and lost connections arrive as its one `Error` event, with the code."""
    async with Emulator(faults=faults) as emulator:
        caller = Caller(emulator)
        await caller.call(bytes(32000))
        [error] = caller.of(RealTimeError)
        assert error.code == code
        assert caller.of(TerminationEvent) == []
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        assert emulator.ledger.totals.abandoned == 0


async def test_a_parameter_that_is_refused() -> None:
    """The SDK's model lets it pass; the service answers after the upgrade."""
    async with Emulator(faults=AT_ONCE) as emulator:
        caller = Caller(emulator)
        await caller.call(b"", keyterms_prompt=["x"] * 101)
        [error] = caller.of(RealTimeError)
        assert error.code == 3006
        assert "Max 100 items" in str(error)
