"""`gateway simulate`: carriers that play calls."""

import argparse
import asyncio
import math
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, get_args
from urllib.parse import urlsplit

import aiohttp
import msgspec
from rich.console import Console
from rich.live import Live

from gateway.call import CARRIERS
from gateway.errors import ConfigurationFault
from gateway.media.messages import Encoding
from gateway.simulator import audio, bundled, figures, handshake, load, process, recorded, report, telnyx, wav, whole
from gateway.simulator.audio import Sound
from gateway.simulator.frames import HOWS, CarrierFaults, HangUp
from gateway.simulator.load import Plan, Tally
from gateway.simulator.process import NotStarted, cancelled_by_signals
from gateway.simulator.receiver import Failing, Receiver
from gateway.simulator.recorded import Recording, RecordingFault

_HELP = """\
Plays calls as a carrier does: signed WebSocket streams of two parties, at real pace. Afterwards it reports what the gateway
added to the audio's delay, what it used of the machine, and, where the audio is coded speech, which words were lost.

Without --url everything runs on this machine: AssemblyAI's emulator, a webhook receiver, and a gateway between them.
With --url a gateway is dialled that runs already; its secrets are read from where it reads them (GATEWAY_TWILIO_AUTH_TOKENS,
GATEWAY_PUBLIC_URL, …), and its events are seen only where --receive is its GATEWAY_WEBHOOK_URL.
"""

_EXAMPLES = """\
examples:
  gateway simulate                                  one coded call of 30 s, everything on this machine
  gateway simulate --calls 60 --rate 120            60 calls that arrive within half a second
  gateway simulate --calls 50 --for 10m             50 at a time, for ten minutes
  gateway simulate --carrier telnyx --codec PCMA --shuffle 4 --reconnect 10
  gateway simulate --hang-up 12.3:abort --mid-word  the socket is reset in the middle of a word
  gateway simulate --burst 233 --lose 0.01          a bad day in the carrier's network
  gateway simulate --receiver-fails 20              the receiver answers 500 for 20 s
  gateway simulate --audio call.wav                 a stereo recording: left is inbound, right is outbound
  gateway simulate --audio stream.ndjson            a recorded stream, one message a line, by its timestamps

  gateway simulate --url wss://gateway.example.com --calls 6 --for 24h
  gateway simulate --url ws://127.0.0.1:8080 --receive 9000

exit code: 0 as promised; 1 words were lost, doubled or moved, or a call, an event or a session was not as it should be; 2 wrong use
"""

_WAIT_SECONDS: Final = 30.0
_ASK_SECONDS: Final = 0.2
_LINE_SECONDS: Final = 10.0
_REFRESH_SECONDS: Final = 0.25
_MOST_CALLS: Final = 2000
_LARGEST_FRAME: Final = 8000
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 1}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    parser = subparsers.add_parser(
        "simulate",
        help="carriers that play calls, and a report",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is played")
    what.add_argument(
        "--calls",
        type=_count,
        default=1,
        metavar="N",
        help="how many calls; with --for, how many at a time (default: 1)",
    )
    what.add_argument(
        "--rate", type=_positive, default=5.0, metavar="R", help="new calls a second at most (default: 5)"
    )
    what.add_argument(
        "--for", type=duration, dest="lasting", metavar="TIME", help="keep them up for so long: 90s, 10m, 24h"
    )
    what.add_argument("--carrier", choices=CARRIERS, default="twilio", help="whose wire (default: twilio)")
    what.add_argument(
        "--audio",
        default="coded",
        metavar="FILE",
        help="a .wav, an .ndjson, `demo` (the bundled call) or `coded` (default): words that can be counted",
    )
    what.add_argument(
        "--seconds", type=_positive, default=30.0, metavar="S", help="length of a coded call (default: 30)"
    )
    what.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a <Parameter>, as `profile=sales`"
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--url", metavar="URL", help="the carriers' port of a running gateway: ws://HOST:PORT or wss://HOST"
    )
    where.add_argument(
        "--admin", metavar="URL", help="its admin port, for its figures (default: port 8081 of the same host)"
    )
    where.add_argument(
        "--wait",
        type=duration,
        default=_WAIT_SECONDS,
        metavar="TIME",
        help="how long it may take to answer (default: 30s)",
    )
    where.add_argument(
        "--path-token", action="store_true", help="dial with a call-bound token in the path (GATEWAY_TOKEN_SECRET)"
    )
    where.add_argument(
        "--receive",
        type=int,
        metavar="PORT",
        help="receive its webhooks here (secret: the first of GATEWAY_WEBHOOK_SECRETS)",
    )
    where.add_argument("--mulaw", action="store_true", help="without --url: the gateway passes mu-law on as it comes")
    wrong = parser.add_argument_group("what goes wrong at the carrier")
    wrong.add_argument("--lose", type=_share, default=0.0, metavar="SHARE", help="of the frames, 0 to 1")
    wrong.add_argument("--repeat", type=_share, default=0.0, metavar="SHARE", help="of the frames come twice")
    wrong.add_argument(
        "--skip", type=_span, metavar="FROM:TO", help="these seconds of audio are thrown away: timestamps jump"
    )
    wrong.add_argument("--burst", type=int, default=0, metavar="MS", help="frames are delivered together each so often")
    wrong.add_argument("--shuffle", type=int, default=0, metavar="N", help="a frame may overtake so many others")
    wrong.add_argument("--wobble", type=int, default=0, metavar="MS", help="timestamps are off by up to so much")
    wrong.add_argument("--hang-up", type=_hang_up, metavar="SECOND[:HOW]", help=f"how: {', '.join(HOWS)}")
    wrong.add_argument("--mid-word", action="store_true", help="hang up in the middle of the next word")
    wrong.add_argument("--mute", action="store_true", help="streams start and end, and never carry audio")
    telnyx_only = parser.add_argument_group("Telnyx only")
    telnyx_only.add_argument(
        "--codec", choices=get_args(Encoding), default="PCMU", help="the call leg's (default: PCMU)"
    )
    telnyx_only.add_argument(
        "--sizes",
        type=_sizes,
        default=telnyx.ODD_SIZES,
        metavar="N,N,…",
        help="bytes of the frames, in turn (default: 160,792,240,80,1)",
    )
    telnyx_only.add_argument(
        "--reconnect",
        type=_reconnect,
        metavar="SECOND[:AWAY]",
        help="the socket is lost, and comes back AWAY seconds later (default: 0.5)",
    )
    far = parser.add_argument_group("what goes wrong at the receiver")
    far.add_argument(
        "--receiver-fails",
        type=_fails,
        metavar="SECONDS[:STATUS]",
        help="everything is answered so, from the first event on (default: 500)",
    )
    far.add_argument("--receiver-slow", type=duration, default=0.0, metavar="TIME", help="each answer takes so long")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def run(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Play; 0 if all was as promised, 1 if not, 2 if it could not begin."""
    try:
        return process.run(_simulate(args, environ))
    except ConfigurationFault as fault:
        print(*fault.faults, sep="\n", file=sys.stderr)
    except (NotStarted, wav.WavFault, RecordingFault) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or 'cannot begin'}: {error.strerror or error}", file=sys.stderr)
    return 2


async def _simulate(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    console = Console(stderr=args.json, highlight=False, soft_wrap=True)
    sound, faults, parameters = _sound(args), _faults(args), _parameters(args.parameter)
    async with AsyncExitStack() as opened:
        http = await opened.enter_async_context(aiohttp.ClientSession())
        place = await opened.enter_async_context(_elsewhere(args, environ) if args.url else _here(args, console))
        place.secrets.address(place.carriers, args.carrier, "any", path_token=args.path_token)
        plan = Plan(
            base=place.carriers,
            carrier=args.carrier,
            calls=args.calls,
            rate=args.rate,
            lasting_seconds=args.lasting,
            sound=sound,
            secrets=place.secrets,
            path_tokens=args.path_token,
            parameters=parameters,
            faults=faults,
            mid_word=args.mid_word,
            encoding=args.codec,
            sizes=args.sizes,
        )
        tally, looks = Tally(), figures.Looks()
        clock = asyncio.get_running_loop().time
        began = clock()
        await figures.look(looks, http, place.admin)
        async with asyncio.TaskGroup() as beside:
            playing = beside.create_task(load.run(plan, tally, place.receiver), name="load")
            watching = [
                beside.create_task(figures.watch(looks, http, place.admin), name="figures"),
                beside.create_task(_progress(console, tally, plan), name="progress"),
            ]
            with cancelled_by_signals(playing):  # the calls are dropped, and what there is is reported
                await asyncio.wait({playing})
            for task in watching:
                task.cancel()
        await figures.look(looks, http, place.admin)
        made = report.made(
            tally,
            args.carrier,
            clock() - began,
            received=place.receiver is not None,
            unsigned=place.receiver.counts["unsigned"] if place.receiver else 0,
            figures=looks.figures(),
            ledger=await whole.ledger(http, place.emulator) if place.emulator else None,
        )
        if args.json:
            print(msgspec.json.encode(made).decode())
        else:
            report.show(made, console)
    return 0 if made.well else 1


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls go."""

    carriers: str
    admin: str
    secrets: handshake.Secrets
    receiver: Receiver | None = None
    emulator: str | None = None


@asynccontextmanager
async def _here(args: argparse.Namespace, console: Console) -> AsyncIterator[_Place]:
    """Everything on this machine."""
    console.print("starting AssemblyAI's emulator, a webhook receiver and a gateway on this machine …")
    shared = whole.new_secrets()
    async with (
        whole.emulator() as emulator,
        Receiver(failing=_failing(args), port=args.receive or 0) as receiver,
        whole.gateway(shared, emulator, receiver, mulaw=args.mulaw) as gateway,
    ):
        yield _Place(
            carriers=gateway.carriers, admin=gateway.admin, secrets=shared, receiver=receiver, emulator=emulator
        )


@asynccontextmanager
async def _elsewhere(args: argparse.Namespace, environ: Mapping[str, str]) -> AsyncIterator[_Place]:
    """
    A gateway that runs already.

    Raises:
        ConfigurationFault: It does not answer, or what is needed to be believed by it is missing.
    """
    place = urlsplit(args.url)
    if place.scheme not in {"ws", "wss"} or not place.hostname:
        raise ConfigurationFault([f"--url {args.url}: not ws://HOST:PORT or wss://HOST"])
    shared = handshake.from_environment(environ)
    admin = args.admin or f"http://{place.hostname}:{environ.get('GATEWAY_ADMIN_PORT') or 8081}"
    async with AsyncExitStack() as opened:
        receiver = None
        if args.receive is not None:
            secret = environ.get("GATEWAY_WEBHOOK_SECRETS", "").split(",")[0].strip()
            if not secret:
                raise ConfigurationFault(["--receive needs GATEWAY_WEBHOOK_SECRETS, as the gateway has it"])
            receiver = await opened.enter_async_context(Receiver(secret, port=args.receive, failing=_failing(args)))
        port = place.port or (443 if place.scheme == "wss" else 80)
        if not await _answers(place.hostname, port, args.wait):
            raise ConfigurationFault([f"nobody answers at {args.url} (waited {args.wait:g} s)"])
        yield _Place(carriers=args.url, admin=admin, secrets=shared, receiver=receiver)


async def _answers(host: str, port: int, seconds: float) -> bool:
    """Whether somebody listens, or begins to in time: two containers start in any order."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    await asyncio.sleep(_ASK_SECONDS)
                else:
                    writer.close()
                    return True
    return False


async def _progress(console: Console, tally: Tally, plan: Plan) -> None:
    """Show how it stands, until cancelled: live on a terminal, a line now and then elsewhere."""
    clock = asyncio.get_running_loop().time
    began = clock()
    wanted = f"{plan.calls} calls" if plan.lasting_seconds is None else f"{plan.lasting_seconds:g} s"
    if console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            while True:
                live.update(report.progress(tally, clock() - began, wanted), refresh=True)
                await asyncio.sleep(_REFRESH_SECONDS)
    console.print(f"playing {wanted} …")
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        console.print(report.line(tally, clock() - began))


# What the options mean.


def _sound(args: argparse.Namespace) -> Callable[[int], Sound | Recording]:
    """
    The audio of the n-th call.

    Raises:
        WavFault, RecordingFault, OSError: The file cannot be played.
    """
    if args.audio == "coded":
        return lambda number: audio.coded(args.seconds, number)
    path = bundled.AUDIO if args.audio == "demo" else Path(args.audio)
    fixed: Sound | Recording = recorded.read(path) if path.suffix in {".ndjson", ".jsonl"} else audio.from_wav(path)
    if isinstance(fixed, Recording) and fixed.carrier != args.carrier:
        raise RecordingFault(f"{path}: a stream of {fixed.carrier}; play it with --carrier {fixed.carrier}")
    return lambda _number: fixed


def _faults(args: argparse.Namespace) -> CarrierFaults:
    return CarrierFaults(
        lose=args.lose,
        skip=args.skip,
        repeat=args.repeat,
        burst_ms=args.burst,
        shuffle=args.shuffle,
        wobble_ms=args.wobble,
        hang_up=args.hang_up,
        mute=args.mute,
        reconnect=args.reconnect,
    )


def _failing(args: argparse.Namespace) -> Failing:
    seconds, status = args.receiver_fails or (0.0, 500)
    return Failing(status=status, seconds=seconds, slow_seconds=args.receiver_slow)


def _parameters(told: list[str]) -> dict[str, str]:
    """
    Custom parameters.

    Raises:
        ConfigurationFault: One has no name or no value.
    """
    split = [one.partition("=") for one in told]
    wrong = [f"--parameter {''.join(one)}: not NAME=VALUE" for one in split if not one[0] or not one[1]]
    if wrong:
        raise ConfigurationFault(wrong)
    return {name: value for name, _, value in split}


def duration(text: str) -> float:
    """Seconds of `90`, `90s`, `10m`, `1.5h`, `1d`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text}: not a time as 90s, 10m or 24h")
    return float(found[1]) * _UNITS[found[2]]


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MOST_CALLS:
        raise argparse.ArgumentTypeError(f"{text}: from 1 to {_MOST_CALLS}")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: not more than 0")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text}: not from 0 to 1")
    return share


def _span(text: str) -> tuple[float, float]:
    begin, _, end = text.partition(":")
    if float(begin) >= float(end):
        raise argparse.ArgumentTypeError(f"{text}: not FROM:TO")
    return float(begin), float(end)


def _hang_up(text: str) -> HangUp:
    second, _, said = text.partition(":")
    for how in HOWS:
        if how == (said or "stop"):
            return HangUp(float(second), how)
    raise argparse.ArgumentTypeError(f"{text}: not SECOND or SECOND:HOW, how of {', '.join(HOWS)}")


def _reconnect(text: str) -> tuple[float, float]:
    second, _, away = text.partition(":")
    return float(second), float(away or 0.5)


def _fails(text: str) -> tuple[float, int]:
    seconds, _, status = text.partition(":")
    return float(seconds), int(status or 500)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(","))
    if not all(0 < size <= _LARGEST_FRAME for size in sizes):
        raise argparse.ArgumentTypeError(f"{text}: frames have 1 to {_LARGEST_FRAME} bytes")
    return sizes
