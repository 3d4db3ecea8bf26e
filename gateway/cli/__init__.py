"""`gateway COMMAND`: what people type. A command's file says what it does; nothing else lies behind it."""

import argparse
import sys
from collections.abc import Sequence

from gateway.cli import check, deliveries, demo, emulator, healthcheck, schema, serve, simulate, token

_COMMANDS = (serve, check, demo, simulate, emulator, deliveries, token, schema, healthcheck)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="Carriers' media streams in, signed and ordered transcription webhooks out.",
        epilog="Each command explains itself: gateway COMMAND --help",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers).set_defaults(run=command.run)
    args = parser.parse_args(argv)
    try:
        code: int = args.run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # a pipe's reader that has gone is no error of ours
        return 0
    return code
