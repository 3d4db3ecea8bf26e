"""`gateway emulator`: AssemblyAI's v3 streaming service on this machine."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import get_args

import msgspec

from gateway.emulator.faults import Cut, Faults, Malformed, as_mapping, from_file, from_mapping
from gateway.emulator.ledger import Ledger
from gateway.emulator.recogniser import RECOGNISERS
from gateway.emulator.server import Emulator, serve
from gateway.errors import ConfigurationFault

_HELP = """\
Plays AssemblyAI's v3 streaming service: /v3/ws and /v3/token, with its parameters, limits, messages and error codes.
Any raw API key is accepted unless --key is given. Beside the service it answers:

  GET  /ledger   every session: how it ended, audio received, seconds billed, abandoned or not
  GET  /faults   the knobs as they stand        POST /faults   set them anew (JSON; {} mends everything)
  POST /reset    forget all sessions and faults
"""

_EXAMPLES = """\
examples:
  gateway emulator                                  hears coded speech (what the tests and the simulator send)
  gateway emulator --recogniser sphinx              hears English, with PocketSphinx
  gateway emulator --cut 0:3.2 --cut 1:5:fin        resets session 0 after 3.2 s of audio, ends session 1 after 5 s
  gateway emulator --set begin_delay_seconds=1.2 --set session_seconds=20
  gateway emulator --faults faults.toml             the same knobs in a file; `at.0.cut = {second = 3.2, how = "rst"}`

  GATEWAY_ASSEMBLYAI_URL=ws://127.0.0.1:8765 gateway serve      points the gateway at it

knobs for --set, --faults and POST /faults, with their ordinary values:
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    knobs = {**as_mapping(Faults()), "malformed": f"[] (of {', '.join(get_args(Malformed))})"}
    listed = "\n".join(f"  {name} = {json.dumps(value)}" for name, value in knobs.items())
    parser = subparsers.add_parser(
        "emulator",
        help="the AssemblyAI emulator alone",
        description=_HELP,
        epilog=_EXAMPLES + listed,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--recogniser", choices=RECOGNISERS, default="tones", help="what it hears (default: tones)")
    parser.add_argument("--key", action="append", metavar="KEY", help="an API key it knows; others are refused (1008)")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="knobs from a .json or .toml file")
    parser.add_argument("--set", action="append", default=[], metavar="KNOB=VALUE", help="one knob; VALUE is JSON")
    parser.add_argument(
        "--cut",
        action="append",
        default=[],
        metavar="SESSION:SECOND[:rst|fin|CODE]",
        help="end a session's connection when so much audio has come (default: rst)",
    )
    parser.add_argument("--json", action="store_true", help="print the whole ledger as JSON on exit, not its totals")
    return parser


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; 2 if the knobs cannot be."""
    try:
        faults = faults_of(args)
        ledger = asyncio.run(_serve(args, faults))
    except ConfigurationFault as fault:
        for line in fault.faults:
            print(line, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cannot listen on {args.host}:{args.port}: {error.strerror}", file=sys.stderr)
        return 2
    print(json.dumps(ledger.as_json(), indent=1) if args.json else ledger.totals)
    return 0


async def _serve(args: argparse.Namespace, faults: Faults) -> Ledger:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def listening(emulator: Emulator) -> None:
        print(f"listening emulator={emulator.url}", flush=True)

    keys = frozenset(args.key) if args.key else None
    return await serve(
        args.host, args.port, faults=faults, recogniser=args.recogniser, keys=keys, listening=listening, stop=stop
    )


def faults_of(args: argparse.Namespace) -> Faults:
    """
    The knobs of a file, then of `--set`, then of `--cut`.

    Raises:
        ConfigurationFault: If one cannot be.
    """
    faults = from_file(args.faults) if args.faults is not None else Faults()
    knobs: dict[str, object] = {}
    for text in args.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationFault([f"--set {text}: not KNOB=VALUE"])
        try:
            knobs[name] = json.loads(value)
        except ValueError:
            knobs[name] = value
    faults = from_mapping({**as_mapping(faults), **knobs})
    cuts = dict(_cut(text) for text in args.cut)
    return faults.but(at={**faults.at, **cuts})


def _cut(text: str) -> tuple[int, Cut]:
    session, _, rest = text.partition(":")
    second, _, how = rest.partition(":")
    try:
        close = {"how": "close", "code": int(how)} if how.isdigit() else {"how": how or "rst"}
        return int(session), msgspec.convert({"second": float(second), **close}, Cut)
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigurationFault([f"--cut {text}: {error}"]) from error
