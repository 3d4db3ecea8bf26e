"""`gateway token CARRIER CALL_ID`: mint a call-bound path token, for a stream that is started by hand or by other software."""

import argparse
import os
import sys
import time
from collections.abc import Mapping

from gateway.call import CARRIERS
from gateway.config import load_tokens
from gateway.errors import ConfigurationFault
from gateway.media.tokens import TWILIO_SECONDS, mint
from gateway.media.wire import identity_or_none


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    parser = subparsers.add_parser("token", help="mint a call-bound path token", description=__doc__)
    parser.add_argument("carrier", choices=CARRIERS, help="whose media route the token is for")
    parser.add_argument("call_id", help="the call's id as its carrier has it: CallSid, or call_control_id")
    return parser


def run(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Print the token alone on standard output, what is to be said about it on standard error; 2 if none can be made."""
    if identity_or_none(args.call_id) is None:
        print("the call's id must be 1 to 256 printable ASCII characters", file=sys.stderr)
        return 2
    try:
        settings = load_tokens(environ)
    except ConfigurationFault as fault:
        print(*fault.faults, sep="\n", file=sys.stderr)
        return 2
    seconds = TWILIO_SECONDS if args.carrier == "twilio" else settings.max_call_seconds
    print(mint(settings.secrets[0], args.carrier, args.call_id, time.time() + seconds))
    print(f"good for {seconds:g} s and this call: wss://…/media/{args.carrier}/TOKEN", file=sys.stderr)
    if settings.random:
        print(
            "warning: GATEWAY_TOKEN_SECRET is not set: this token is made under a random secret and no server will take it",
            file=sys.stderr,
        )
    return 0
