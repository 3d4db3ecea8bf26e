"""`gateway serve`: the server."""

import argparse
import os
import sys
from collections.abc import Mapping

from gateway.config import load
from gateway.errors import ConfigurationFault, StoreFault


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    return subparsers.add_parser(
        "serve",
        help="run the gateway",
        description="Run the gateway. It reads GATEWAY_* and ASSEMBLYAI_API_KEY from the environment, and the TOML file that "
        "GATEWAY_CONFIG names; `gateway check` says what it would make of them. SIGTERM drains; a second one shortens the wait.",
    )


def run(_args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Serve until a signal; 2 where configuration, store or ports do not allow it."""
    from gateway import app, log  # noqa: PLC0415  `--help` should not load a server

    try:
        settings = load(environ)
    except ConfigurationFault as fault:
        print("the configuration cannot be used:", *(f"  {one}" for one in fault.faults), sep="\n", file=sys.stderr)
        return 2
    log.set_up()
    for warning in settings.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    try:
        app.run(settings, lambda line: print(line, flush=True))
    except StoreFault as fault:
        print(f"the store cannot be used: {fault}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cannot listen: {error}", file=sys.stderr)
        return 2
    return 0
