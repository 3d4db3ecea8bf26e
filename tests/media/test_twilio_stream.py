"""Twilio's messages: what each means, in which order, and what becomes of the broken ones."""

import base64
import json
from typing import Any

import pytest

from gateway.errors import ProtocolFault
from gateway.media.messages import Connected, Ignored, Malformed, Media, Started, Stopped
from gateway.media.twilio import TwilioStream
from gateway.media.wire import MALFORMED_LIMIT, PARAMETERS_LIMIT

CALL, STREAM, ACCOUNT = "CA" + "1" * 32, "MZ" + "2" * 32, "AC" + "3" * 32


def start(**changes: Any) -> str:
    """A `start` as Twilio sends it, with some of its body changed (None: taken out)."""
    body = {
        "accountSid": ACCOUNT,
        "streamSid": STREAM,
        "callSid": CALL,
        "tracks": ["inbound", "outbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {},
        **changes,
    }
    body = {name: value for name, value in body.items() if value is not None}
    return json.dumps({"event": "start", "sequenceNumber": "1", "start": body, "streamSid": STREAM})


def media(**changes: Any) -> str:
    """A `media` as Twilio sends it, with some of its body changed (None: taken out)."""
    body = {
        "track": "inbound",
        "chunk": "1",
        "timestamp": "99",
        "payload": base64.b64encode(b"\xff" * 160).decode(),
        **changes,
    }
    body = {name: value for name, value in body.items() if value is not None}
    return json.dumps({"event": "media", "sequenceNumber": "2", "media": body, "streamSid": STREAM})


STOP = json.dumps(
    {"event": "stop", "sequenceNumber": "9", "streamSid": STREAM, "stop": {"accountSid": ACCOUNT, "callSid": CALL}}
)


def started(**changes: Any) -> TwilioStream:
    """A stream that has read its `start`."""
    stream = TwilioStream()
    assert isinstance(stream.receive(start(**changes)), Started)
    return stream


def test_a_whole_stream() -> None:
    """The documented messages come out typed, numbers that were strings as numbers."""
    stream = TwilioStream()
    assert stream.receive('{"event":"connected","protocol":"Call","version":"0.2.0"}') == Connected()
    assert stream.receive(start(customParameters={"FirstName": "Jane", "profile": "sales"})) == Started(
        stream_id=STREAM,
        call_id=CALL,
        account_id=ACCOUNT,
        tracks=("inbound", "outbound"),
        encoding="PCMU",
        from_=None,
        to=None,
        profile="sales",
        parties={},
        attributes={"FirstName": "Jane", "profile": "sales"},
    )
    assert stream.receive(media()) == Media("inbound", 1, 99, b"\xff" * 160)
    assert stream.receive(media(track="outbound", chunk="2", timestamp="119").encode()) == Media(
        "outbound", 2, 119, b"\xff" * 160
    )
    assert stream.receive(STOP) == Stopped(CALL)


@pytest.mark.parametrize("size", [0, 1, 160, 320, 999, 8000])
def test_frames_of_any_size(size: int) -> None:
    """No frame size is promised, so none is expected."""
    message = started().receive(media(payload=base64.b64encode(bytes(size)).decode()))
    assert isinstance(message, Media)
    assert len(message.payload) == size


def test_numbers_may_be_numbers() -> None:
    """Counters come as strings and, from others of this family, as numbers."""
    assert started().receive(media(chunk=7, timestamp=140)) == Media("inbound", 7, 140, b"\xff" * 160)


def test_connected_and_parameters_may_be_missing() -> None:
    """A stream may begin with `start`, and old captures have no custom parameters."""
    stream = started(customParameters=None, accountSid=None)
    assert stream.started is not None
    assert (stream.started.attributes, stream.started.account_id) == ({}, None)


def test_parties_are_read_from_the_parameters_in_any_case() -> None:
    """From, to, profile and the parties' names are found whatever the case; attributes stay as sent."""
    parameters = {
        "From": "+1312",
        "TO": "+1313",
        "Profile": "sales",
        "Inbound_Party": "customer",
        "outbound_party": "agent",
    }
    found = started(customParameters=parameters).started
    assert found is not None
    assert (found.from_, found.to, found.profile) == ("+1312", "+1313", "sales")
    assert found.parties == {"inbound": "customer", "outbound": "agent"}
    assert found.attributes == parameters


def test_the_first_of_two_cases_counts() -> None:
    """Of two parameters that differ in case alone the first is taken."""
    found = started(customParameters={"From": "+1", "from": "+2"}).started
    assert found is not None
    assert found.from_ == "+1"


def test_parameters_are_bounded() -> None:
    """Too many, too long and nameless parameters are cut off, not a reason to lose the call; other kinds become text."""
    many = {f"n{n}": "x" * 10_000 for n in range(200)}
    found = started(customParameters=many).started
    assert found is not None
    assert len(found.attributes) == PARAMETERS_LIMIT
    assert {len(value) for value in found.attributes.values()} == {4096}
    odd = {"": "x", "y" * 300: "x", "n": 5, "f": 1.5, "b": True, "c": False, "o": {}, "z": None}
    found = started(customParameters=odd).started
    assert found is not None
    assert found.attributes == {"n": "5", "f": "1.5", "b": "true", "c": "false"}
    assert started(customParameters="text").started is not None


@pytest.mark.parametrize(
    ("named", "tracks"),
    [
        (["inbound"], ("inbound",)),
        (["outbound_track"], ("outbound",)),
        (["outbound", "inbound", "inbound"], ("inbound", "outbound")),
        ("both_tracks", ("inbound", "outbound")),
        (None, ()),
        (["video", 5], ()),
    ],
)
def test_tracks(named: Any, tracks: tuple[str, ...]) -> None:
    """Tracks are named plainly or as they are asked for; where none is named, none is made up."""
    found = started(tracks=named).started
    assert found is not None
    assert found.tracks == tracks


@pytest.mark.parametrize(
    "format_",
    [
        {"encoding": "audio/x-L16", "sampleRate": 16000, "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1},
        {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 2},
        {"encoding": "audio/x-alaw", "sampleRate": 8000, "channels": 1},
        {"encoding": "\x00\x07", "sampleRate": 8000},
        {},
        None,
    ],
)
def test_other_formats_are_refused(format_: Any) -> None:
    """What is not mu-law at 8 kHz, mono, closes the socket with a reason rather than be transcribed as noise."""
    with pytest.raises(ProtocolFault, match="unsupported media format") as caught:
        TwilioStream().receive(start(mediaFormat=format_))
    assert (caught.value.code, caught.value.reason) == (1003, "unsupported_format")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"event":"dtmf","dtmf":{"track":"inbound_track","digit":"1"}}', "dtmf"),
        ('{"event":"mark","mark":{"name":"x"}}', "mark"),
        ('{"event":"clear"}', "clear"),
        ('{"event":"error","error":"?"}', "error"),
        ('{"event":"transcription","x":[1]}', "unknown_event"),
        ('{"event":""}', "unknown_event"),
    ],
)
def test_what_does_not_concern_us(text: str, kind: str) -> None:
    """Events that mean nothing to a transcription, known or not, are passed over in any state."""
    for stream in (TwilioStream(), started()):
        message = stream.receive(text)
        assert isinstance(message, Ignored)
        assert message.kind == kind


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "json"),
        ("{", "json"),
        (b"\xff\xfe", "json"),
        (b'{"event":"media","media":{"track":"\xff","chunk":"1","timestamp":"1","payload":""}}', "json"),
        ('{"event":"dtmf"} x', "json"),
        ('{"event":"dtmf","x":' + "[" * 60_000, "json"),
        ('{"event":"\ud800"}', "json"),
        ("[]", "shape"),
        ("null", "shape"),
        ("{}", "shape"),
        ('{"event":5}', "shape"),
        ('{"event":"media"}', "shape"),
        ('{"event":"media","media":[]}', "shape"),
        ('{"event":"start"}', "shape"),
        ('{"event":"start","start":{"mediaFormat":5}}', "shape"),
        (media(payload=None), "shape"),
        (media(chunk=None), "shape"),
        (media(payload="@@@@"), "payload"),
        (media(payload="YQ"), "payload"),
        (media(payload=5), "payload"),
        (media(chunk="-1"), "counter"),
        (media(chunk="one"), "counter"),
        (media(chunk=True), "counter"),
        (media(timestamp=str(2**53 + 1)), "counter"),
        (media(timestamp="9" * 100), "counter"),
        (media(timestamp=1.5), "counter"),
        (media(track="video"), "track"),
        (media(track=5), "track"),
    ],
)
def test_broken_messages_are_counted_by_reason(text: str | bytes, reason: str) -> None:
    """Every kind of broken message is a value with a label, and the stream goes on after it."""
    stream = started()
    assert stream.receive(text) == Malformed(reason)  # type: ignore[arg-type]  # a row of the table
    assert isinstance(stream.receive(media()), Media)


@pytest.mark.parametrize("call", [None, "", 5, "C" * 257, "CA\n", "CÄ", {"a": 1}])
def test_ids_that_cannot_be_used(call: Any) -> None:
    """A `start` whose id is missing, too long or not printable starts nothing."""
    stream = TwilioStream()
    assert stream.receive(start(callSid=call)) == Malformed("id")
    assert stream.started is None


def test_out_of_order() -> None:
    """Media and `stop` before `start` are malformed; after `stop` everything is over."""
    stream = TwilioStream()
    assert stream.receive(media()) == Malformed("order")
    assert stream.receive(STOP) == Malformed("order")
    stream.receive(start())
    assert stream.receive(STOP) == Stopped(CALL)
    for late in (media(), STOP, start()):
        assert stream.receive(late) == Ignored("after_stop")


def test_a_second_start() -> None:
    """The same call's `start` again changes nothing; another call's closes the socket."""
    stream = started()
    assert stream.receive(start()) == Ignored("repeated_start")
    with pytest.raises(ProtocolFault, match="second call") as caught:
        stream.receive(start(callSid="CA-other"))
    assert (caught.value.code, caught.value.reason) == (1008, "second_call")


def test_a_stop_without_body_or_with_a_broken_id() -> None:
    """A `stop` ends the stream whatever it says of the call."""
    assert started().receive('{"event":"stop"}') == Stopped(None)
    assert started().receive('{"event":"stop","stop":{"callSid":5}}') == Stopped(None)


def test_too_many_malformed_messages_in_a_row_close_the_socket() -> None:
    """The limit closes with 1007; a frame of audio between begins the count anew; binary frames count too."""
    stream = started()
    for _ in range(MALFORMED_LIMIT - 1):
        stream.receive("?")
    stream.receive(media())
    for _ in range(MALFORMED_LIMIT - 1):
        assert stream.malformed("binary") == Malformed("binary")
    with pytest.raises(ProtocolFault, match="50 malformed messages") as caught:
        stream.receive("?")
    assert (caught.value.code, caught.value.reason) == (1007, "malformed")
