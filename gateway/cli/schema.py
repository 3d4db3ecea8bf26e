"""`gateway schema`: the JSON Schema of every webhook event."""

import argparse
import json

from gateway import events


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    parser = subparsers.add_parser(
        "schema",
        help="print the JSON Schema of every webhook event",
        description="Print the JSON Schema (2020-12) of the webhooks, all events or one.",
    )
    parser.add_argument(
        "event", nargs="?", choices=tuple(events.EVENTS), metavar="EVENT", help=", ".join(events.EVENTS)
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Print it."""
    schema = events.schema()
    if args.event is not None:
        schema["oneOf"] = [event for event in schema["oneOf"] if event["title"] == args.event]
    print(json.dumps(schema, indent=2))
    return 0
