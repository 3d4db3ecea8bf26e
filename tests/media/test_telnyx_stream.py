"""Telnyx's messages: snake_case, both laws, and what Twilio's tests do not show."""

import base64
import json
from typing import Any

import pytest

from gateway.errors import ProtocolFault
from gateway.media.messages import Connected, Ignored, Malformed, Media, Started, Stopped
from gateway.media.telnyx import TelnyxStream

CALL = "v3:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ"
STREAM = "32DE0DEA-53CB-4B21-89A4-9E1819C043BC"
USER = "3E6F995F-85F7-4705-9741-53B116D28237"


def start(stream: str | None = STREAM, **changes: Any) -> str:
    """A `start` as Telnyx sends it, with some of its body changed (None: taken out)."""
    body = {
        "user_id": USER,
        "call_control_id": CALL,
        "call_session_id": "ff55a038-6f5d-11ef-9692-02420aeffb1f",
        "from": "+13122010094",
        "to": "+13122123456",
        "tags": ["TAG1"],
        "client_state": "aGF2ZSBhIG5pY2UgZGF5ID1d",
        "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        **changes,
    }
    body = {name: value for name, value in body.items() if value is not None}
    message: dict[str, Any] = {"event": "start", "sequence_number": "1", "start": body}
    return json.dumps(message | ({"stream_id": stream} if stream else {}))


def media(**changes: Any) -> str:
    """A `media` as Telnyx sends it."""
    body = {
        "track": "inbound",
        "chunk": "2",
        "timestamp": "5",
        "payload": base64.b64encode(b"\xd5" * 792).decode(),
        **changes,
    }
    return json.dumps({"event": "media", "sequence_number": "4", "media": body, "stream_id": STREAM})


def started(**changes: Any) -> Started:
    """What a `start` says."""
    message = TelnyxStream().receive(start(**changes))
    assert isinstance(message, Started)
    return message


def test_a_whole_stream() -> None:
    """The documented messages come out typed; no track is named, so none is made up."""
    stream = TelnyxStream()
    assert (
        stream.receive('{"event":"connected","version":"1.0.0","connected":{"x-telnyx-streaming-auth-token":"t"}}')
        == Connected()
    )
    assert stream.receive(start()) == Started(
        stream_id=STREAM,
        call_id=CALL,
        account_id=USER,
        tracks=(),
        encoding="PCMU",
        from_="+13122010094",
        to="+13122123456",
        profile=None,
        parties={},
        attributes={},
    )
    assert stream.receive(media()) == Media("inbound", 2, 5, b"\xd5" * 792)
    assert stream.receive(media(track="outbound_track", chunk="1")) == Media("outbound", 1, 5, b"\xd5" * 792)
    assert stream.receive('{"event":"error","payload":{"code":100003,"title":"malformed_frame"}}') == Ignored("error")
    assert stream.receive(
        '{"event":"dtmf","occurred_at":"2025-06-05T08:54:19.698408Z","dtmf":{"digit":"1"}}'
    ) == Ignored("dtmf")
    stop = json.dumps({"event": "stop", "stop": {"user_id": USER, "call_control_id": CALL}, "stream_id": STREAM})
    assert stream.receive(stop) == Stopped(CALL)


@pytest.mark.parametrize(
    ("named", "encoding"),
    [("PCMU", "PCMU"), ("PCMA", "PCMA"), ("pcma", "PCMA"), ("audio/x-alaw", "PCMA"), ("audio/PCMU", "PCMU")],
)
def test_both_laws(named: str, encoding: str) -> None:
    """The leg's codec decides: mu-law in America, A-law elsewhere."""
    assert started(media_format={"encoding": named, "sample_rate": "8000"}).encoding == encoding


@pytest.mark.parametrize(
    "format_",
    [
        {"encoding": "L16", "sample_rate": 16000, "channels": 1},
        {"encoding": "L16", "sample_rate": 8000, "channels": 1},
        {"encoding": "OPUS", "sample_rate": 16000},
        {"encoding": "G722", "sample_rate": 8000},
        {"encoding": "AMR-WB", "sample_rate": 16000},
        {"encoding": "PCMU", "sample_rate": 16000},
        {"encoding": "PCMA", "sample_rate": 8000, "channels": 2},
        {},
        None,
    ],
)
def test_other_codecs_are_refused_with_the_remedy(format_: Any) -> None:
    """What cannot be decoded closes the socket, and the reason says which setting mends it."""
    with pytest.raises(ProtocolFault, match='stream_codec="PCMU"') as caught:
        TelnyxStream().receive(start(media_format=format_))
    assert (caught.value.code, caught.value.reason) == (1003, "unsupported_format")


@pytest.mark.parametrize("name", ["custom_parameters", "customParameters"])
@pytest.mark.parametrize(
    "value", [{"profile": "sales", "n": "1"}, [{"name": "profile", "value": "sales"}, {"name": "n", "value": 1}, 5, {}]]
)
def test_custom_parameters_in_every_spelling(name: str, value: Any) -> None:
    """Object or list, snake or camel: the reference shows none of them."""
    found = started(**{name: value})
    assert (found.profile, found.attributes) == ("sales", {"profile": "sales", "n": "1"})


def test_the_start_s_own_numbers_win() -> None:
    """From and to of the `start` count before parameters of these names, which fill in where it has none."""
    parameters = {"From": "+1", "To": "+2"}
    assert started(custom_parameters=parameters).from_ == "+13122010094"
    found = started(custom_parameters=parameters, **{"from": None, "to": 5})
    assert (found.from_, found.to) == ("+1", "+2")


def test_the_stream_s_id_may_stand_elsewhere() -> None:
    """The id is top-level; within `start`, or for want of both the call's, is taken too."""
    assert started(stream=None, stream_id="inner").stream_id == "inner"
    assert started(stream=None).stream_id == CALL


def test_numbering_may_start_anywhere_and_ids_are_checked() -> None:
    """The first frame need not be chunk 1; a `start` without its call's id is malformed."""
    stream = TelnyxStream()
    assert stream.receive(start(call_control_id=None)) == Malformed("id")
    stream.receive(start())
    assert stream.receive(media(chunk="4711", payload="")) == Media("inbound", 4711, 5, b"")


def test_a_stop_without_body() -> None:
    """A `stop` ends the stream without its body too."""
    stream = TelnyxStream()
    stream.receive(start())
    assert stream.receive('{"event":"stop"}') == Stopped(None)
