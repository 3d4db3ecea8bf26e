"""The protocol machine: what each message leads to, with time as an argument."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway.emulator.faults import Faults
from gateway.emulator.ledger import Session
from gateway.emulator.parameters import Refusal, parse
from gateway.emulator.session import Configure, Finish, Force, Hear, Pace, Protocol, State, Step

UNIX = 1_000_000.0
FRAME = bytes(3200)  # 100 ms


def protocol(query: str = "", *, begun: bool = True, cap: float = 10800, **knobs: Any) -> Protocol:
    line = Session("id", 0, UNIX, "key")
    subject = Protocol(parse(query), Faults(**knobs), line)
    line.parameters = subject.parameters
    if begun:
        subject.begin(0.0, UNIX, cap)
    return subject


def audio(subject: Protocol, at: float, payload: bytes = FRAME) -> list[Step]:
    return subject.receive_audio(at, UNIX + at, payload)


def say(subject: Protocol, at: float, **message: Any) -> list[Step]:
    return subject.receive_text(at, UNIX + at, json.dumps(message))


def refused(call: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        call()
    return refusal.value


def test_begin_says_what_was_understood() -> None:
    """`Begin` has the id, an expiry two seconds before the cap, and the whole configuration."""
    subject = protocol("speaker_labels=true&voice_focus=far-field&speech_model=universal-3-5-pro", begun=False)
    begin = subject.begin(0.0, UNIX, 10800)
    assert begin["expires_at"] == int(UNIX) + 10798
    assert begin["configuration"] == {
        "model": "universal-3-5-pro",
        "mode": "balanced",
        "api_version": "2025-05-12",
        "speaker_labels": True,
        "redact_pii": False,
        "filter_profanity": False,
        "domain": None,
        "voice_focus": "far-field",
    }
    assert subject.state is State.OPEN


@pytest.mark.parametrize(
    ("query", "size", "ms"),
    [
        ("sample_rate=16000", 3200, 100),
        ("sample_rate=8000", 1600, 100),
        ("sample_rate=8000&encoding=pcm_mulaw", 800, 100),
    ],
)
def test_the_audio_clock(query: str, size: int, ms: float) -> None:
    """Bytes become milliseconds by rate and width."""
    subject = protocol(query)
    assert audio(subject, 0.1, bytes(size)) == [Hear(bytes(size), ms)]
    assert subject.line.audio_ms == ms


def test_opus_has_no_clock() -> None:
    """Where bytes say nothing about time, they are only counted."""
    subject = protocol("encoding=opus")
    assert audio(subject, 0.1, b"x" * 9) == [Hear(b"x" * 9, 0.0)]
    assert (subject.line.frames, subject.line.bytes, subject.line.audio_ms) == (1, 9, 0)


def test_a_frame_over_a_second_is_refused() -> None:
    """1000 ms pass, more is 3007 at once."""
    subject = protocol()
    audio(subject, 1.0, bytes(32000))
    refusal = refused(lambda: audio(subject, 2.0, bytes(32002)))
    assert refusal.code == 3007
    assert refusal.text.startswith("Input Duration Error: Input Duration Violation: 1000.1 ms.")
    assert subject.line.long_frames == 1


def test_short_frames_are_let_pass_for_a_second() -> None:
    """50 frames of 20 ms come through, the next is 3007; legal ones in between are forgiven."""
    subject = protocol()
    for count in range(50):
        audio(subject, count / 50, bytes(640))
    refusal = refused(lambda: audio(subject, 1.0, bytes(640)))
    assert (refusal.code, subject.line.short_frames) == (3007, 50)
    assert "20.0 ms. Expected between 50 and 1000 ms" in refusal.text


def test_a_short_last_frame_is_tolerated() -> None:
    """Terminate after one short frame is no fault, unless frames are strict."""
    subject = protocol()
    audio(subject, 0.1)
    audio(subject, 0.2, bytes(640))
    assert say(subject, 0.3, type="Terminate") == [Finish()]
    assert refused(lambda: audio(protocol(strict_frames=True), 0.2, bytes(640))).code == 3007


def test_audio_far_ahead_of_the_clock_is_refused() -> None:
    """More audio than the knob allows ahead of real time is 3007."""
    subject = protocol(ahead_seconds=2)
    for _ in range(20):
        audio(subject, 0.0)
    refusal = refused(lambda: audio(subject, 0.0))
    assert (refusal.code, refusal.text) == (
        3007,
        "Audio Transmission Rate Exceeded: Received 2.1 sec. audio in 0.0 sec",
    )
    assert subject.line.too_fast
    assert audio(protocol(ahead_seconds=2), 0.0) != []


def test_half_a_sample_is_noted() -> None:
    """An odd number of bytes of PCM16 is a violation, not an end."""
    subject = protocol()
    audio(subject, 0.1, bytes(3201))
    assert subject.line.violations == {"half a sample": 1}


def test_audio_before_begin_is_kept_and_noted() -> None:
    """What comes too early is heard later, and counted."""
    subject = protocol(begun=False)
    assert audio(subject, 0.0) == [Hear(FRAME, 100.0)]
    assert subject.line.violations == {"audio before Begin": 1}


def test_terminate_before_begin_is_honoured() -> None:
    """A client that hangs up while connecting may say so at once."""
    subject = protocol(begun=False)
    assert say(subject, 0.0, type="Terminate") == [Finish()]
    subject.begin(0.1, UNIX, 60)
    assert subject.state is State.TERMINATING


def test_nothing_counts_after_terminate() -> None:
    """Messages after Terminate are ignored and noted, a second Terminate too."""
    subject = protocol()
    say(subject, 1.0, type="Terminate")
    assert audio(subject, 1.1) == []
    assert say(subject, 1.2, type="Terminate") == []
    assert subject.line.violations == {"audio after Terminate": 1, "Terminate after Terminate": 1}
    assert subject.line.last_client_message_at == UNIX + 1.0


def test_orders() -> None:
    """ForceEndpoint, KeepAlive and UpdateConfiguration are understood."""
    subject = protocol()
    assert say(subject, 1, type="ForceEndpoint") == [Force()]
    assert say(subject, 1, type="KeepAlive") == []
    [configure] = say(subject, 1, vad_threshold=0.5, type="UpdateConfiguration")
    assert isinstance(configure, Configure)
    assert subject.parameters.given["vad_threshold"] == 0.5
    assert (subject.line.keepalives, subject.line.updates) == (1, [{"vad_threshold": 0.5}])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "Invalid JSON: "),
        ("[]", "Invalid Message: []"),
        ('{"type":"Sparkle"}', "Invalid Message Type: Sparkle"),
        ("{}", "Invalid Message Type: None"),
        ('{"type":"UpdateConfiguration","agent_context":"' + "x" * 1751 + '"}', "at most 1750"),
    ],
)
def test_what_is_no_message_kills(text: str, sentence: str) -> None:
    """3006, with what was wrong."""
    refusal = refused(lambda: protocol().receive_text(1.0, UNIX, text))
    assert refusal.code == 3006
    assert sentence in refusal.text


def test_inactivity() -> None:
    """No message for so long ends the session with 3006; KeepAlive and audio put it off; Terminate forbids it."""
    subject = protocol("inactivity_timeout=5")
    audio(subject, 3.0)
    say(subject, 7.0, type="KeepAlive")
    assert subject.next_due() == 12.0
    assert subject.due(11.9, 0) == []
    refusal = refused(lambda: subject.due(12.0, 0))
    assert (refusal.code, refusal.ending) == (3006, "inactivity")
    assert refusal.text == "Session terminated due to inactivity: No messages received for 5 seconds"
    say(subject, 12.0, type="Terminate")
    assert subject.due(100.0, 0) == []


def test_the_cap() -> None:
    """At its cap the session ends with 3008, terminating or not."""
    subject = protocol(cap=60)
    say(subject, 59.0, type="Terminate")
    assert subject.due(59.9, 0) == []
    refusal = refused(lambda: subject.due(60.0, 0))
    assert (refusal.code, refusal.ending) == (3008, "max_duration")
    assert refusal.text == "Session Expired: Maximum session duration exceeded"


def test_heartbeats() -> None:
    """Every five seconds where asked, with what came and whether somebody spoke; an update can ask later."""
    subject = protocol("session_heartbeat=true")
    audio(subject, 1.0)
    subject.heard(speech=True)
    assert subject.due(4.9, 0) == []
    [beat] = subject.due(5.0, 5000)
    assert beat == {
        "total_audio_received_ms": 100,
        "total_duration_ms": 5000,
        "realtime_factor": 1.0,
        "max_speech_probability": 0.999999,
        "type": "Heartbeat",
    }
    assert subject.due(9.9, 0) == []
    assert subject.due(10.0, 0)[0]["max_speech_probability"] < 0.01
    late = protocol()
    assert late.due(50.0, 0) == []
    say(late, 50.0, session_heartbeat=True, type="UpdateConfiguration")
    assert late.next_due() == 55.0


def test_time_brings_nothing_before_begin_or_after_the_end() -> None:
    """A session that has not begun, or is over, is past caring."""
    assert protocol(begun=False).due(10**6, 0) == []
    subject = protocol()
    say(subject, 1.0, type="Terminate")
    subject.terminated(UNIX + 2)
    assert subject.due(10**6, 0) == []


def test_termination_counts_in_whole_seconds() -> None:
    """Audio and session seconds are integers; the malformed one has floats."""
    subject = protocol()
    for count in range(16):
        audio(subject, count / 10)
    assert subject.terminated(UNIX + 3.4) == {
        "audio_duration_seconds": 2,
        "session_duration_seconds": 3,
        "type": "Termination",
    }
    spoilt = protocol(malformed=("float_durations",)).terminated(UNIX)
    assert isinstance(spoilt["session_duration_seconds"], float)


def test_the_pace() -> None:
    """A second comes through at once, then backlog waits by the speed, and idle time earns no more than a second."""
    pace = Pace(1.25, 0.0)
    assert [pace.wait_seconds(0.0, 500.0) for _ in range(3)] == [0.0, 0.0, 0.4]
    assert pace.wait_seconds(0.4, 125.0) == pytest.approx(0.1)
    assert pace.wait_seconds(1000.0, 1000.0) == 0.0
    assert pace.wait_seconds(1000.0, 125.0) == pytest.approx(0.1)
    assert Pace(None, 0.0).wait_seconds(0.0, 10**9) == 0.0
