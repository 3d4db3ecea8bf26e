"""
What the service says, as JSON objects: every field of the live service's messages, `type` last as it sends them.

Times are integer milliseconds on the session's audio clock.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gateway.emulator.faults import Malformed

Message = dict[str, Any]


class Word(NamedTuple):
    """A recognised word."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float = 0.99


def begin(session_id: str, expires_at: int, configuration: Message) -> Message:
    """The session is open; `expires_at` in Unix seconds."""
    return {"id": session_id, "expires_at": expires_at, "configuration": configuration, "type": "Begin"}


def speech_started(timestamp_ms: int) -> Message:
    """A turn begins."""
    return {"timestamp": timestamp_ms, "confidence": 0.959314, "type": "SpeechStarted"}


def turn(
    order: int,
    words: Sequence[Word],
    *,
    final: bool,
    formatted: bool = True,
    words_final: bool | None = None,
    speaker: str | None = None,
    word_speaker: str | None = None,
    extra: Message | None = None,
) -> Message:
    """A turn as heard so far, or for good. *words_final* is *final* unless told."""
    text = " ".join(word.text for word in words)
    fixed = final if words_final is None else words_final
    message: Message = {
        "turn_order": order,
        "turn_is_formatted": formatted,
        "end_of_turn": final,
        "transcript": text,
        "end_of_turn_confidence": 1 if final else 0,
        "words": [spoken(word, final=fixed, speaker=word_speaker, sure=True) for word in words],
        "utterance": text if final else "",
    }
    if speaker is not None:
        message |= {"speaker_label": speaker, "speaker_confidence": 0.886574}
    return message | (extra or {}) | {"type": "Turn"}


def spoken(word: Word, *, final: bool, speaker: str | None, sure: bool) -> Message:
    """A word inside a turn or a revision; only turns say how *sure* the speaker is."""
    message: Message = {
        "start": word.start_ms,
        "end": word.end_ms,
        "text": word.text,
        "confidence": word.confidence,
        "word_is_final": final,
    }
    if speaker is not None:
        message["speaker"] = speaker
        if sure:
            message["speaker_confidence"] = 1
    return message


def revision(order: int, words: Sequence[Word], speaker: str) -> Message:
    """One turn's entry in a `SpeakerRevision`."""
    return {
        "turn_order": order,
        "speaker_label": speaker,
        "words": [spoken(word, final=True, speaker=speaker, sure=False) for word in words],
    }


def speaker_revision(revisions: Sequence[Message]) -> Message:
    """Turns whose speakers were found to be others."""
    return {"revisions": list(revisions), "type": "SpeakerRevision"}


def heartbeat(received_ms: int, duration_ms: int, factor: float, speech: float) -> Message:
    """What has come and how fast it is heard."""
    return {
        "total_audio_received_ms": received_ms,
        "total_duration_ms": duration_ms,
        "realtime_factor": round(factor, 4),
        "max_speech_probability": speech,
        "type": "Heartbeat",
    }


def silence(start_ms: int, end_ms: int) -> Message:
    """Audio without speech."""
    return {"start_ms": start_ms, "end_ms": end_ms, "type": "Silence"}


def warning(code: int, text: str) -> Message:
    """Something is not as it should be; the session goes on."""
    return {"warning_code": code, "warning": text, "type": "Warning"}


def llm_gateway_response(order: int, text: str) -> Message:
    """What a language model made of a turn."""
    data = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "understood"}}]}
    return {"turn_order": order, "transcript": text, "data": data, "type": "LLMGatewayResponse"}


def error(code: int, text: str) -> Message:
    """The session is over; the close frame with the same code follows."""
    return {"error_code": code, "error": text, "type": "Error"}


def termination(audio_seconds: float, session_seconds: float, *, whole: bool = True) -> Message:
    """The session ended as it was asked to; `session_duration_seconds` is what is billed."""
    if not whole:
        return {
            "audio_duration_seconds": audio_seconds + 0.25,
            "session_duration_seconds": session_seconds + 0.25,
            "type": "Termination",
        }
    return {
        "audio_duration_seconds": round(audio_seconds),
        "session_duration_seconds": round(session_seconds),
        "type": "Termination",
    }


MALFORMED: Final[dict[Malformed, str | bytes]] = {
    "not_json": '{"type":"Turn","transcript":',
    "not_object": '[1,"Turn",null]',
    "missing_type": '{"transcript":"nothing says what this is"}',
    "unknown_type": '{"sparkle":{"deep":[1,2,3]},"type":"Sparkle"}',
    "missing_field": '{"end_of_turn":false,"transcript":"","type":"Turn"}',
    "wrong_type": '{"turn_order":"first","end_of_turn":"maybe","transcript":7,"words":"none","type":"Turn"}',
    "bad_word": '{"revisions":[{"turn_order":0,"words":[{"start":0,"end":1,"text":"x"}]}],"type":"SpeakerRevision"}',
    "binary": b"\x00\xffnot text",
    "float_durations": (
        '{"total_audio_received_ms":1.5,"total_duration_ms":2.5,"realtime_factor":"fast","type":"Heartbeat"}'
    ),
}
"""Messages that break the protocol, each in its own way; none carries a true word."""
