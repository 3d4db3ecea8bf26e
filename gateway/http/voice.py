"""
The answer to a carrier's voice webhook: fork the call's audio to us, then do what the profile says.

TwiML (https://www.twilio.com/docs/voice/twiml/stream) and TeXML
(https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs/stream) differ by an attribute.
"""

from typing import Final, Literal
from xml.etree import ElementTree as ET

from gateway.config import Profile, Settings
from gateway.media.tokens import TWILIO_SECONDS, mint
from gateway.media.wire import Unusable, identity, number_of

NAME: Final = "gateway"
"""A stream's name is unique within its call, so markup that is run again does not fork the audio a second time."""

PAUSE_SECONDS: Final = 14400
"""A call with nothing after `<Start>` is hung up."""

STATUS_PATHS: Final = {"twilio": "/twilio/stream-status", "telnyx": "/telnyx/events"}


def voice_answer(
    carrier: Literal["twilio", "telnyx"], settings: Settings, form: dict[str, str], now: float
) -> bytes | None:
    """
    The markup for the call of a voice webhook, or None where the webhook names no call that could be one.

    *now* is in seconds of the epoch; `settings.public_url` must be known.
    """
    assert settings.public_url is not None
    try:
        call_id = identity(form.get("CallSid"))
    except Unusable:
        return None
    # Telnyx reconnects to the same address, for as long as the call lives; Twilio never does.
    lifetime = TWILIO_SECONDS if carrier == "twilio" else settings.max_call_seconds
    token = mint(settings.token_secrets[0], carrier, call_id, now + lifetime)
    profile = settings.profile_for(None, form.get("To"))
    response = ET.Element("Response")
    stream = ET.SubElement(
        ET.SubElement(response, "Start"),
        "Stream",
        {
            "name": NAME,
            "url": f"wss{settings.public_url.removeprefix('https')}/media/{carrier}/{token}",
            "track": "both_tracks",
            # A European leg would come as PCMA, a wideband one as what we refuse.
            **({"codec": "PCMU"} if carrier == "telnyx" else {}),
            "statusCallback": settings.public_url + STATUS_PATHS[carrier],
            "statusCallbackMethod": "POST",
        },
    )
    said = {"from": form.get("From"), "to": form.get("To"), "direction": form.get("Direction")}
    for name, value in {**said, "profile": profile.name}.items():
        if (shown := number_of(value)) is not None:
            ET.SubElement(stream, "Parameter", {"name": name, "value": shown})
    response.extend(_what_follows(profile))
    answer: bytes = ET.tostring(response, encoding="utf-8", xml_declaration=True)
    return answer


def _what_follows(profile: Profile) -> list[ET.Element]:
    if profile.twiml is None:
        return [ET.Element("Pause", {"length": str(PAUSE_SECONDS)})]
    return list(ET.fromstring(f"<Response>{profile.twiml}</Response>"))  # noqa: S314  the operator's own file
