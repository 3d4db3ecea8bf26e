"""`gateway check`: what the configuration amounts to; with `--live`, whether the speech service takes it."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Final

from gateway.config import Settings, load
from gateway.errors import ConfigurationFault
from gateway.speech.service import Order, Service
from gateway.speech.session import Session

_SILENCE_MS: Final = 600


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    parser = subparsers.add_parser(
        "check",
        help="say what the configuration amounts to",
        description="Read the configuration as `gateway serve` does and say what is on and what is missing, never a secret. "
        "Exits 2 with every fault listed where it cannot be used.",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="also open one real session for each profile's leg settings, read its Begin, terminate it, and say what that cost",
    )
    return parser


def run(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Print findings; 0, or 2 where something has to be mended."""
    try:
        settings = load(environ)
    except ConfigurationFault as fault:
        print("the configuration cannot be used:", *(f"  {one}" for one in fault.faults), sep="\n", file=sys.stderr)
        return 2
    print(*settings.describe(), sep="\n")
    for warning in settings.warnings:
        print(f"WARNING: {warning}")
    return asyncio.run(_live(settings)) if args.live else 0


async def _live(settings: Settings) -> int:
    """Open one session for each distinct set of speech parameters."""
    from gateway import log  # noqa: PLC0415  without --live nothing is logged
    from gateway.cost import Rates  # noqa: PLC0415
    from gateway.metrics import Metrics  # noqa: PLC0415
    from gateway.speech import service as speech  # noqa: PLC0415

    log.set_up()
    wanted: dict[str, tuple[list[str], Mapping[str, object]]] = {}
    for profile in settings.profiles.values():
        for track, leg in (("inbound", profile.inbound), ("outbound", profile.outbound)):
            same = repr(sorted(leg.speech.items()))
            wanted.setdefault(same, ([], leg.speech))[0].append(f"{profile.name} {track}")
    failed = 0
    async with speech.opening(
        url=settings.assemblyai_url,
        api_key=settings.api_key,
        terminate_seconds=settings.terminate_seconds,
        sessions_per_minute=settings.sessions_per_minute,
        rates=Rates(settings.rates),
        metrics=Metrics(),
        token_cap_seconds=60 if settings.session_tokens else None,
    ) as service:
        for names, parameters in wanted.values():
            failed += not await _try(service, ", ".join(names), parameters)
    return 2 if failed else 0


async def _try(service: Service, name: str, parameters: Mapping[str, object]) -> bool:
    hearer = _Silent()
    session = service.dial(Order("check", "inbound", 1, parameters, hearer, owned=lambda: True, keep=hearer.keep))
    if not await session.opened():
        print(f"live: {name}: REFUSED: {session.loss}")
        return False
    rate = int(str(parameters.get("sample_rate", 16000)))
    silence = b"\xff" if parameters.get("encoding") == "pcm_mulaw" else b"\0\0"
    await session.send(silence * (rate * _SILENCE_MS // 1000), _SILENCE_MS)
    session.terminate()
    await session.ended()
    assert session.begun_at is not None
    assert session.closed_at is not None
    seconds = session.closed_at - session.begun_at
    told = session.termination.session_duration_seconds if session.termination is not None else None
    billed = seconds if told is None else told
    print(
        f"live: {name}: ok, Begin after {session.begun_at - session.dialled_at:.2f} s, open {seconds:.2f} s, "
        f"billed {billed:g} s{'' if told is not None else ' (estimate)'}, {service.rates.cost(billed, parameters):.6f} USD"
        f"{'' if session.termination is not None else f', NOT confirmed closed: {session.loss}'}"
    )
    return session.termination is not None


class _Silent:
    """Hears a session that nobody speaks into."""

    def began(self, session: Session) -> None: ...
    def heard(self, session: Session, message: object) -> None: ...
    def over(self, session: Session) -> None: ...
    async def keep(self, stored: object) -> None: ...
