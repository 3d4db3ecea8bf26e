"""
Everything on this machine, nothing from outside: the service's emulator, a receiver, and the real gateway between them.

The gateway is a process of its own (`gateway serve`), on free ports, with a store that is gone afterwards; and so is the
emulator, where it is not to share the player's time.
"""

import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from gateway.call import TRACKS
from gateway.simulator.handshake import Secrets
from gateway.simulator.process import Command
from gateway.simulator.receiver import Receiver

PUBLIC_URL: Final = "https://gateway.example.com"
"""What Twilio is said to have dialled: signed, and reached by nobody."""

_DRAIN_SECONDS: Final = 5
_MULAW: Final = "".join(f'[profiles.default.{track}]\naudio = "mulaw"\n' for track in TRACKS)


def new_secrets() -> Secrets:
    """Secrets of a carrier that exists for one run."""
    return Secrets(
        public_url=PUBLIC_URL,
        twilio_auth_token=secrets.token_hex(16),
        telnyx_stream_token=secrets.token_hex(16),
        signalwire_stream_token=secrets.token_hex(16),
        token_secret=secrets.token_hex(16).encode(),
    )


def settings(
    shared: Secrets, assemblyai_url: str, webhook_url: str, webhook_secret: str, folder: Path
) -> dict[str, str]:
    """The environment of a gateway between these; its store is in *folder*."""
    return {
        "ASSEMBLYAI_API_KEY": "simulated",
        "GATEWAY_ASSEMBLYAI_URL": assemblyai_url,
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": "0",
        "GATEWAY_ADMIN_HOST": "127.0.0.1",
        "GATEWAY_ADMIN_PORT": "0",
        "GATEWAY_PUBLIC_URL": shared.public_url or PUBLIC_URL,
        "GATEWAY_TWILIO_AUTH_TOKENS": shared.twilio_auth_token or "",
        "GATEWAY_TELNYX_STREAM_TOKENS": shared.telnyx_stream_token or "",
        "GATEWAY_SIGNALWIRE_STREAM_TOKENS": shared.signalwire_stream_token or "",
        "GATEWAY_TOKEN_SECRET": (shared.token_secret or b"").decode(),
        "GATEWAY_WEBHOOK_URL": webhook_url,
        "GATEWAY_WEBHOOK_SECRETS": webhook_secret,
        "GATEWAY_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
        "GATEWAY_SESSIONS_PER_MINUTE": "60000",
        "GATEWAY_STORE": f"sqlite:///{folder}/gateway.db",
        "GATEWAY_DRAIN_SECONDS": str(_DRAIN_SECONDS),
    }


class Gateway(msgspec.Struct, frozen=True):
    """A gateway that runs."""

    carriers: str
    """`ws://HOST:PORT`."""
    admin: str
    """`http://HOST:PORT`."""
    command: Command


@asynccontextmanager
async def gateway(
    shared: Secrets,
    assemblyai_url: str,
    receiver: Receiver,
    *,
    mulaw: bool = False,
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[Gateway]:
    """
    A gateway process between a speech service and a receiver; *more* is laid over its environment.

    With *mulaw* the default profile passes audio on as it comes.

    Raises:
        NotStarted: It did not start; the message says why.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-") as folder:
        environment = settings(shared, assemblyai_url, receiver.url, receiver.secret, Path(folder))
        if mulaw:
            profile = Path(folder) / "gateway.toml"
            profile.write_text(_MULAW, encoding="utf-8")
            environment["GATEWAY_CONFIG"] = str(profile)
        environment |= more or {}
        async with Command("serve", environment=environment, expects=("carriers", "admin"), stop_seconds=60) as command:
            carriers = command.listening["carriers"].replace("http", "ws", 1)
            yield Gateway(carriers, command.listening["admin"], command)


@asynccontextmanager
async def emulator(*arguments: str) -> AsyncIterator[str]:
    """The emulator as a process; gives its address, `ws://HOST:PORT`."""
    async with Command("emulator", "--port", "0", *arguments, expects=("emulator",)) as command:
        yield command.listening["emulator"]


async def ledger(http: aiohttp.ClientSession, emulator_url: str) -> dict[str, Any]:
    """The totals of an emulator's ledger."""
    async with http.get(emulator_url.replace("ws", "http", 1) + "/ledger") as answer:
        totals: dict[str, Any] = (await answer.json())["totals"]
        return totals
