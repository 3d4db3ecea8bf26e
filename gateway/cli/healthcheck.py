"""`gateway healthcheck`: for containers that have no other client inside."""

import argparse
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    parser = subparsers.add_parser(
        "healthcheck",
        help="ask a running gateway whether it is alive",
        description="Ask /healthz (or /readyz) on the admin port of this machine: exits 0 where it answers 200, else 1.",
    )
    parser.add_argument("--ready", action="store_true", help="ask /readyz: takes calls now")
    return parser


def run(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Ask once, for at most 3 s."""
    host = environ.get("GATEWAY_ADMIN_HOST") or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  where it listens, not where it is asked
    port = environ.get("GATEWAY_ADMIN_PORT") or "8081"
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/{'readyz' if args.ready else 'healthz'}"
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            print(answer.read(1000).decode(errors="replace").strip())
    except (urllib.error.URLError, OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0
