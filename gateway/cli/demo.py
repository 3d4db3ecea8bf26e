"""`gateway demo`: one call, start to end, on this machine."""

import argparse
import os
import sys
from collections.abc import Mapping

from rich.console import Console

from gateway.config.values import TRUE
from gateway.errors import ConfigurationFault
from gateway.simulator.demo import demo, live_from
from gateway.simulator.process import NotStarted
from gateway.simulator.process import run as run_to_end

_HELP = """\
Plays a bundled call of two parties (39 s) as a signed Twilio stream into a real gateway process, which transcribes it through
AssemblyAI's emulator and sends signed webhooks to a receiver here. You see the conversation as it is spoken, then what it cost
and how its sessions ended. Nothing leaves this machine, no account is needed.

With --live (or LIVE=1) and ASSEMBLYAI_API_KEY, AssemblyAI itself hears the call; that costs about two cents.
"""

_EXAMPLES = """\
examples:
  gateway demo
  LIVE=1 ASSEMBLYAI_API_KEY=… gateway demo
  LIVE=1 GATEWAY_ASSEMBLYAI_URL=wss://streaming.eu.assemblyai.com ASSEMBLYAI_API_KEY=… gateway demo

exit code: 0 as promised; 1 a session was abandoned, a leg was not heard, a signature was wrong, …; 2 it could not begin
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    parser = subparsers.add_parser(
        "demo",
        help="one whole two-party call on this machine, no account needed",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--live", action="store_true", help="AssemblyAI itself instead of its emulator (ASSEMBLYAI_API_KEY)"
    )
    return parser


def run(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Show it; 2 where it could not begin."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    try:
        live = live_from(environ) if args.live or environ.get("LIVE", "").lower() in TRUE else None
        return run_to_end(demo(console, live))
    except ConfigurationFault as fault:
        print(*fault.faults, sep="\n", file=sys.stderr)
    except NotStarted as fault:
        print(fault, file=sys.stderr)
    return 2
