"""
The demonstration: one call of two parties, through the real gateway, to webhooks that are verified and shown.

    bundled call ──Twilio's wire──▶ gateway serve ──v3──▶ the emulator (PocketSphinx), or AssemblyAI itself
                                         └──signed webhooks──▶ receiver ──▶ conversation

Everything but AssemblyAI itself is on this machine and gone afterwards.
"""

from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import Any, Final

import aiohttp
import msgspec
from rich.console import Console
from rich.text import Text

from gateway.call import TRACKS, Track
from gateway.config import EVENT_TYPES
from gateway.errors import ConfigurationFault
from gateway.simulator import audio, bundled, twilio, whole
from gateway.simulator.check import CallCheck
from gateway.simulator.conversation import Conversation
from gateway.simulator.count import errors, words_of
from gateway.simulator.frames import CarrierFaults
from gateway.simulator.player import Played, play
from gateway.simulator.receiver import Receiver

PARTIES: Final[Mapping[Track, str]] = {"inbound": "customer", "outbound": "agent"}
DEFAULT_URL: Final = "wss://streaming.assemblyai.com"
NO_SPHINX: Final = (
    "The demonstration hears with PocketSphinx, which is not installed here (or has no wheel for this Python).\n"
    "  Python 3.11 and 3.13 have wheels: pip install 'telephony-transcription-gateway[sphinx]', or `make demo PYTHON=python3.13 VENV=.venv-demo`\n"
    "  Without it: `gateway simulate` plays coded speech; `gateway demo --live` uses AssemblyAI itself (ASSEMBLYAI_API_KEY)."
)
_END_SECONDS: Final = 45.0
_WIDTH: Final = 12


class Live(msgspec.Struct, frozen=True):
    """AssemblyAI itself."""

    url: str
    key: str

    def __repr__(self) -> str:
        return f"Live({self.url})"


def live_from(environ: Mapping[str, str]) -> Live:
    """
    Where AssemblyAI is, and the key to it.

    Raises:
        ConfigurationFault: There is no key.
    """
    key = environ.get("ASSEMBLYAI_API_KEY", "").strip()
    if not key:
        raise ConfigurationFault(["--live (LIVE=1) needs ASSEMBLYAI_API_KEY"])
    return Live(environ.get("GATEWAY_ASSEMBLYAI_URL", "").strip() or DEFAULT_URL, key)


async def demo(console: Console, live: Live | None = None) -> int:
    """
    Play the call and show what comes of it; 0 where all is as promised.

    Raises:
        ConfigurationFault: PocketSphinx is not installed.
        NotStarted: The emulator or the gateway would not start.
    """
    console.print(
        Text("A customer calls a contact centre; the gateway says who said what, while it is said.", style="bold")
    )
    if live is None and find_spec("pocketsphinx") is None:
        raise ConfigurationFault([NO_SPHINX])
    sound = audio.from_wav(bundled.AUDIO)
    shared = whole.new_secrets()
    more = {"GATEWAY_WEBHOOK_EVENTS": ",".join(EVENT_TYPES)}
    conversation = Conversation(console)
    async with AsyncExitStack() as opened:
        http = await opened.enter_async_context(aiohttp.ClientSession())
        receiver = await opened.enter_async_context(Receiver(watch=conversation.take))
        if live is None:
            console.print("starting AssemblyAI's emulator, which hears with PocketSphinx …")
            url = await opened.enter_async_context(whole.emulator("--recogniser", "sphinx"))
        else:
            console.print(f"AssemblyAI itself hears: {live.url}")
            url = live.url
            more["ASSEMBLYAI_API_KEY"] = live.key
        console.print("starting the gateway …")
        gateway = await opened.enter_async_context(whole.gateway(shared, url, receiver, more=more))
        call_id = twilio.new_call_id()
        parameters = {f"{track}_party": party for track, party in PARTIES.items()}
        streams = twilio.streams(sound, call_id, parameters, CarrierFaults())
        address = shared.address(gateway.carriers, "twilio", call_id)
        console.print(f"the call: {sound.seconds:.0f} s, played as a signed Twilio stream to {address.url}\n")
        with conversation:
            played = await play(address, streams)
            in_time = played.ended == "played" and await receiver.until(lambda: receiver.ended(call_id), _END_SECONDS)
        check = receiver.calls.get(call_id, CallCheck())
        # What the service says itself, after the gateway is through; live, what the gateway was told of each session.
        totals = await whole.ledger(http, url) if live is None else _told(check)
        last_words = gateway.command.last_words
    console.print()
    for name, value in _rows(check, totals, receiver, live):
        console.print(Text.assemble((name.ljust(_WIDTH), "bold"), value), soft_wrap=True)
    faults = list(_faults(check, totals, receiver, played, in_time=in_time))
    for fault in faults:
        console.print(Text(f"not as promised: {fault}", style="bold red"), soft_wrap=True)
    if faults and last_words:
        console.print(Text(f"the gateway's log ends:\n{last_words}", style="dim"), soft_wrap=True)
    return 1 if faults else 0


def _told(check: CallCheck) -> dict[str, Any]:
    """The ledger, by the gateway's own events."""
    ended = check.sessions_ended
    return {
        "opened": check.sessions_started,
        "open": check.sessions_started - len(ended),
        "terminated": sum(session["reason"] == "terminated" for session in ended),
        "abandoned": check.zombies,
    }


def _rows(
    check: CallCheck, totals: Mapping[str, Any], receiver: Receiver, live: Live | None
) -> Iterator[tuple[str, str]]:
    words = sum(len(words_of(said.text)) for said in check.finals)
    if check.ended is not None:
        ended = check.ended
        legs = ", ".join(f"{leg['party']} {leg['outcome']}" for leg in ended["legs"])
        turns = f"{len(check.finals)} turns, {words} words"
        yield "call", f"{ended['duration_seconds']:.1f} s, ended: {ended['reason']}; {turns}; {legs}"
    for session in check.sessions_ended:
        open_, audio_ = f"open {session['duration_seconds']:.1f} s", f"audio {session['audio_seconds']:.1f} s"
        billed = f"billed {session['billed_seconds']:.0f} s, ${session['cost_usd']:.4f}"
        yield "session", f"{session['model']}, {open_}, {audio_}, {billed}, {session['reason']}"
    if check.ended is not None:
        whose = "" if live else " (AssemblyAI's prices; the emulator charges nothing)"
        yield "cost", f"${check.ended['cost_usd']:.4f} for {check.ended['billed_seconds']:.0f} s billed{whose}"
    yield (
        "ledger",
        f"sessions opened {totals['opened']}, terminated {totals['terminated']}, abandoned {totals['abandoned']}",
    )
    counts = receiver.counts
    signed = "every signature right" if not counts["unsigned"] else f"{counts['unsigned']} signatures WRONG"
    order = "in order" if not check.faults else "NOT in order"
    yield "webhooks", f"{counts['accepted']} arrived, {signed}, {order}"
    if live is not None:
        return  # it writes numbers as figures: its words are not to be counted against ours
    rates = []
    for track in TRACKS:
        reference = bundled.reference(track)
        wrong = errors(reference, words_of(check.text(track)))
        rates.append(f"{PARTIES[track]} {len(reference) - wrong} of {len(reference)}")
    yield "heard", f"words right: {', '.join(rates)}"


def _faults(
    check: CallCheck, totals: Mapping[str, Any], receiver: Receiver, played: Played, *, in_time: bool
) -> Iterator[str]:
    if played.ended == "refused":
        yield f"the gateway refused the stream with HTTP {played.status}"
    elif played.ended != "played":
        yield f"the stream was {played.ended}"
    elif not in_time:
        yield f"no call.ended within {_END_SECONDS:g} s of the call's end"
    if played.received:
        yield f"{played.received} messages came back on a one-way stream"
    if receiver.counts["unsigned"]:
        yield f"{receiver.counts['unsigned']} webhooks with a wrong signature"
    yield from check.faults
    silent = [PARTIES[track] for track in TRACKS if not check.text(track)]
    if silent:
        yield f"nothing was heard of {' and '.join(silent)}"
    if totals["abandoned"] or totals["open"] or totals["opened"] != totals["terminated"]:
        yield "sessions " + ", ".join(
            f"{name} {totals[name]}" for name in ("opened", "terminated", "open", "abandoned")
        )
