"""Profiles: what a call's number, or its stream's parameter, chooses."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree as ET

from gateway.call import TRACKS, Track
from gateway.config import speech
from gateway.config.speech import Audio
from gateway.config.values import Findings, nearest

DEFAULT: Final = "default"

_PROFILE_KEYS: Final = ("numbers", "webhook_url", "twiml", "inbound", "outbound")
_LEG_KEYS: Final = ("party", "audio", "speech")
_NAME_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class LegProfile:
    """How one track is heard."""

    party: str
    audio: Audio
    speech: Mapping[str, object]
    """Parameters of the leg's sessions, defaults merged: ready for the SDK's `RealTimeParameters`."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is done with a call."""

    name: str
    numbers: tuple[str, ...]
    webhook_url: str | None = field(repr=False)
    twiml: str | None = field(repr=False)
    """The XML that follows `<Start>`; None for a long `<Pause>`."""
    inbound: LegProfile
    outbound: LegProfile

    def leg(self, track: Track) -> LegProfile:
        return self.inbound if track == "inbound" else self.outbound


def number_key(number: str) -> str:
    """A number without what people write between its digits."""
    return re.sub(r"[\s\-().]", "", number).lower()


def read(tables: object, check_url: Callable[[str, str], str | None], findings: Findings) -> dict[str, Profile]:
    """Every profile by name, `default` always among them; *check_url* (url, label) keeps its own faults."""
    faults = findings.faults
    if tables is None:
        tables = {}
    if not isinstance(tables, dict):
        faults.append("profiles must be tables, each written as [profiles.NAME]")
        tables = {}
    profiles: dict[str, Profile] = {}
    owners: dict[str, str] = {}
    for name, table in {DEFAULT: {}, **tables}.items():
        where = f"profiles.{name}"
        if not name or len(name) > _NAME_LIMIT or not name.isprintable():
            faults.append(f"a profile's name must be 1 to {_NAME_LIMIT} printable characters")
            continue
        if not isinstance(table, dict):
            faults.append(f"{where} must be a table, written as [{where}]")
            continue
        profile = _profile(name, table, where, check_url, findings)
        for number in profile.numbers:
            owner = owners.setdefault(number_key(number), name)
            if owner != name:
                faults.append(f"{where}.numbers names a number that profiles.{owner} has already")
        profiles[name] = profile
    return profiles


def _profile(
    name: str,
    table: Mapping[str, Any],
    where: str,
    check_url: Callable[[str, str], str | None],
    findings: Findings,
) -> Profile:
    faults = findings.faults
    _unknown(table, _PROFILE_KEYS, where, faults)
    numbers = table.get("numbers", [])
    if not isinstance(numbers, list) or not all(isinstance(number, str) and number_key(number) for number in numbers):
        faults.append(f'{where}.numbers must be a list of strings, as ["+15559870000"]')
        numbers = []
    url = table.get("webhook_url") or None
    if isinstance(url, str):
        url = check_url(url, f"{where}.webhook_url")
    elif url is not None:
        faults.append(f"{where}.webhook_url must be a string")
        url = None
    legs = {track: _leg(track, table.get(track, {}), f"{where}.{track}", findings) for track in TRACKS}
    return Profile(
        name=name,
        numbers=tuple(numbers),
        webhook_url=url,
        twiml=_twiml(table.get("twiml"), f"{where}.twiml", faults),
        inbound=legs["inbound"],
        outbound=legs["outbound"],
    )


def _leg(track: Track, table: object, where: str, findings: Findings) -> LegProfile:
    faults = findings.faults
    if not isinstance(table, dict):
        faults.append(f"{where} must be a table, written as [{where}]")
        table = {}
    _unknown(table, _LEG_KEYS, where, faults)
    party = table.get("party") or track
    if not isinstance(party, str) or len(party) > _NAME_LIMIT or not party.isprintable():
        faults.append(f"{where}.party must be 1 to {_NAME_LIMIT} printable characters")
        party = track
    audio: Audio = "resampled"
    match table.get("audio", "resampled"):
        case "resampled":
            pass
        case "mulaw":
            audio = "mulaw"
        case _:
            faults.append(f'{where}.audio must be "resampled" or "mulaw"')
    written = table.get("speech", {})
    if not isinstance(written, dict):
        faults.append(f"{where}.speech must be a table, written as [{where}.speech]")
        written = {}
    return LegProfile(party, audio, speech.parameters(written, audio, f"{where}.speech", findings))


def _twiml(fragment: object, label: str, faults: list[str]) -> str | None:
    if fragment is None:
        return None
    if not isinstance(fragment, str):
        faults.append(f"{label} must be a string")
        return None
    if not fragment.strip():
        return None
    try:
        verbs = ET.fromstring(f"<Response>{fragment}</Response>")  # noqa: S314  the operator's own file
    except ET.ParseError as error:
        faults.append(f"{label} is not well-formed XML ({error.msg.split(':')[0]})")
        return None
    if len(verbs) == 0:
        faults.append(f"{label} holds no verb: the call would be hung up after <Start>")
        return None
    return fragment.strip()


def _unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str, faults: list[str]) -> None:
    faults.extend(f"{where}.{key} is not a setting{nearest(key, known)}" for key in table if key not in known)
