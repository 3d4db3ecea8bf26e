"""
`gateway deliveries list|show|replay|enable`: what is owed or given up, and the way out of it.

The store has one writer: where a server holds it, the server is asked, over its admin port; else the file is opened.
"""

import argparse
import asyncio
import os
import re
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table
from yarl import URL

from gateway.config.values import Findings, Written
from gateway.delivery import Replayed, Selection
from gateway.errors import ConfigurationFault, GatewayError, StoreFault
from gateway.outbox.lock import announced, held, lock_path
from gateway.outbox.sqlite import SqliteOutbox
from gateway.webhooks.desk import Desk, Listing, Shown

ANSWER_SECONDS = 60.0
_AGO = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class AdminFault(GatewayError):
    """The running server did not do what was asked."""


@dataclass(frozen=True)
class Place:
    """Where the store and its server may be found."""

    store: Path
    admin: str | None
    """As the environment says; the lock file says it better."""
    tokens: tuple[str, ...] = field(repr=False)


class Operating(Protocol):
    """A desk, here or at the server."""

    async def look(self, selection: Selection, limit: int) -> Listing:
        """List deliveries."""

    async def show(self, webhook_id: str, *, body: bool) -> Shown | None:
        """Look one delivery up."""

    async def replay(self, selection: Selection) -> Replayed:
        """Send again."""

    async def enable(self, url: str) -> bool:
        """Enable an endpoint."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command to *subparsers*."""
    parser = subparsers.add_parser(
        "deliveries", help="what is owed or dead-lettered; replay; enable an endpoint", description=__doc__
    )
    verbs = parser.add_subparsers(dest="verb", required=True)

    listing = verbs.add_parser("list", help="deliveries that are owed, and dead letters")
    listing.add_argument("--state", choices=("owed", "dead"), help="only these")
    listing.add_argument("--limit", type=int, default=100, help="at most so many (100)")
    _add_filters(listing)

    show = verbs.add_parser("show", help="one delivery")
    show.add_argument("id", help="its webhook-id")
    show.add_argument("--body", action="store_true", help="with its body: what was said in the call")

    replay = verbs.add_parser(
        "replay", help="send dead letters again: same webhook-id, new signature; waiting events go at once"
    )
    replay.add_argument("id", nargs="?", help="a webhook-id")
    _add_filters(replay)

    enable = verbs.add_parser("enable", help="send to an endpoint again that answered 410")
    enable.add_argument("url", help="the endpoint, as `list` shows it")

    for verb in (listing, show, replay, enable):
        verb.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> int:
    """Do it; 1 where nothing was found, 2 where it could not be done."""
    try:
        return asyncio.run(_run(args, _place(environ)))
    except ConfigurationFault as fault:
        print(*fault.faults, sep="\n", file=sys.stderr)
    except GatewayError as fault:
        print(fault, file=sys.stderr)
    return 2


def parse_time(text: str, now: float) -> float:
    """
    Read a time: ISO 8601 (UTC where it names no zone), or how long ago (`90s`, `30m`, `2h`, `3d`).

    Raises:
        ValueError: If it is neither.

    """
    ago = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    if ago:
        return now - int(ago[1]) * _AGO[ago[2]]
    at = datetime.fromisoformat(text.strip())
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _add_filters(parser: argparse.ArgumentParser) -> None:
    now = time.time()

    def at(text: str) -> float:
        try:
            return parse_time(text, now)
        except ValueError:
            raise argparse.ArgumentTypeError("a time is ISO 8601, or how long ago: 30m, 2h, 3d") from None

    parser.add_argument("--call", metavar="ID", help="of one call")
    parser.add_argument("--endpoint", metavar="URL", help="to one endpoint")
    parser.add_argument("--type", help="of one event type")
    parser.add_argument("--since", metavar="TIME", type=at, help="made at or after: ISO 8601, or how long ago (2h)")
    parser.add_argument("--until", metavar="TIME", type=at, help="made before")


async def _run(args: argparse.Namespace, place: Place) -> int:
    show = Printer(json=args.json)
    async with _desk(place) as desk:
        match args.verb:
            case "list":
                listing = await desk.look(_selection(args, state=args.state), args.limit)
                show.listing(listing)
                return 0
            case "show":
                found = await desk.show(args.id, body=args.body)
                if found is None:
                    print("no such delivery is owed or dead (what was delivered is deleted)", file=sys.stderr)
                    return 1
                show.delivery(found)
                return 0
            case "replay":
                selection = _selection(args, webhook_id=args.id)
                if selection == Selection():
                    raise AdminFault("say what to replay: an id, --call, --endpoint, --type, --since or --until")
                replayed = await desk.replay(selection)
                show.replayed(replayed)
                return 0 if replayed.revived or replayed.hastened else 1
            case _:
                if not await desk.enable(args.url):
                    print("no such endpoint is known", file=sys.stderr)
                    return 1
                show.enabled(args.url)
                return 0


def _selection(args: argparse.Namespace, *, webhook_id: str | None = None, state: Any = None) -> Selection:
    return Selection(webhook_id, args.call, args.endpoint, args.type, state, args.since, args.until)


def _place(environ: Mapping[str, str]) -> Place:
    """
    Find the few settings that this command needs: it may run where the others are not set.

    Raises:
        ConfigurationFault: If they cannot be used.

    """
    findings = Findings()
    table: Mapping[str, Any] = {}
    if name := environ.get("GATEWAY_CONFIG", "").strip():
        try:
            table = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            findings.faults.append(f"GATEWAY_CONFIG: {name} cannot be read: {error}")
    written = Written(environ, table, findings)
    store = written.text("store") or "sqlite:///gateway.db"
    path = store.removeprefix("sqlite:///")
    if path == store or not path:
        findings.faults.append(
            "GATEWAY_STORE must be sqlite:/// and the path of a file: three slashes relative, four absolute"
        )
    host, port = written.text("admin_host"), written.integer("admin_port", 8081, 0, 65535)
    tokens = written.secrets("api_tokens")
    if findings.faults:
        raise ConfigurationFault(findings.faults)
    admin = None
    if port and (host or written.raw("admin_port")[0] is not None):
        reach = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host or "", host)  # noqa: S104 - where to reach a server that listens there
        admin = str(URL.build(scheme="http", host=reach or "127.0.0.1", port=port))
    return Place(Path(path), admin, tokens)


@asynccontextmanager
async def _desk(place: Place) -> AsyncIterator[Operating]:
    """Open the desk: the server's where one holds the store (or is all there is), else on the file."""
    if held(place.store):
        admin = announced(lock_path(place.store))[1] or place.admin
        if admin is None:
            raise StoreFault(
                f"a process holds {place.store} and does not say where its admin port is: set GATEWAY_ADMIN_PORT"
            )
        async with _admin(admin, place.tokens) as desk:
            yield desk
    elif place.store.exists():
        async with SqliteOutbox(place.store, keep_days=None, create=False) as outbox:
            yield Desk(outbox, None)
    elif place.admin is not None:
        async with _admin(place.admin, place.tokens) as desk:
            yield desk
    else:
        raise StoreFault(f"there is no store at {place.store}")


@asynccontextmanager
async def _admin(url: str, tokens: tuple[str, ...]) -> AsyncIterator[Operating]:
    headers = {"authorization": f"Bearer {tokens[0]}"} if tokens else {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:
        yield _Remote(session, url)


class _Remote:
    """The running server's desk."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def look(self, selection: Selection, limit: int) -> Listing:
        said = msgspec.to_builtins(selection)
        query = {name: str(value) for name, value in said.items() if value is not None} | {"limit": str(limit)}
        return msgspec.json.decode(await self._ask("GET", "/deliveries", params=query) or b"", type=Listing)

    async def show(self, webhook_id: str, *, body: bool) -> Shown | None:
        path = URL("/deliveries") / webhook_id
        said = await self._ask("GET", path, params={"body": "1"} if body else {})
        return None if said is None else msgspec.json.decode(said, type=Shown)

    async def replay(self, selection: Selection) -> Replayed:
        said = {name: value for name, value in msgspec.to_builtins(selection).items() if value is not None}
        return msgspec.json.decode(await self._ask("POST", "/deliveries/replay", json=said) or b"", type=Replayed)

    async def enable(self, url: str) -> bool:
        return await self._ask("POST", "/deliveries/enable", json={"endpoint": url}) is not None

    async def _ask(self, method: str, path: str | URL, **what: Any) -> bytes | None:
        """
        Ask the server; None where it answers that there is no such thing.

        Raises:
            AdminFault: If it does not answer, or refuses.

        """
        try:
            async with self._session.request(method, path, **what) as response:
                said = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AdminFault(f"the server at {self._url} holds the store, and does not answer: {error}") from error
        if response.status == 404:
            return None
        if response.status == 401:
            raise AdminFault(f"the server at {self._url} wants an API token: set GATEWAY_API_TOKENS as it has it")
        if response.status != 200:
            raise AdminFault(
                f"the server at {self._url} answers {response.status}: {said[:500].decode(errors='replace').strip()}"
            )
        return said


class Printer:
    """Standard output: tables, or JSON."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        # Off a terminal nobody scrolls sideways: nothing is cut.
        self._console = Console(
            width=None if sys.stdout.isatty() else 240, highlight=False, soft_wrap=not sys.stdout.isatty()
        )

    def listing(self, listing: Listing) -> None:
        """Print what a look found."""
        if self._json:
            return self._print_json(listing)
        table = Table(box=None, pad_edge=False)
        for title in ("state", "webhook-id", "call", "#", "type", "made", "tries", "last", "due / died", "endpoint"):
            table.add_column(title, justify="right" if title in {"#", "tries"} else "left", overflow="fold")
        for one in listing.deliveries:
            last = " ".join(str(part) for part in (one.outcome, one.status) if part is not None)
            table.add_row(
                f"[red]{one.state}[/]" if one.state == "dead" else one.state,
                *(
                    _plain(part)
                    for part in (one.id, one.call_id, str(one.sequence), one.type, one.created_at, str(one.attempts))
                ),
                *(_plain(part) for part in (last, one.died_at or one.due_at or "", one.endpoint)),
            )
        self._console.print(table)
        for endpoint in listing.endpoints:
            if endpoint.disabled_at is not None:
                self._console.print(f"[red]disabled[/] since {endpoint.disabled_at} (410): {_plain(endpoint.url)}")
            else:
                self._console.print(
                    f"[yellow]failing[/] for every call since {endpoint.failing_since}: {_plain(endpoint.url)}"
                )
        more = "; there are more: --limit" if listing.more else ""
        self._console.print(f"{listing.owed} owed, {listing.dead_letters} dead letters{more}")
        return None

    def delivery(self, one: Shown) -> None:
        """Print one delivery."""
        if self._json:
            return self._print_json(one)
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, value in msgspec.to_builtins(one).items():
            if name != "body":
                table.add_row(name, _plain(str(value)))
        self._console.print(table)
        if one.body is not None:
            self._console.print(_printable(one.body), markup=False, soft_wrap=True)
        return None

    def replayed(self, replayed: Replayed) -> None:
        """Print what a replay did."""
        if self._json:
            return self._print_json(replayed)
        self._console.print(
            f"{replayed.revived} dead letters are owed again, {replayed.hastened} waiting events go at once"
        )
        return None

    def enabled(self, url: str) -> None:
        """Print that an endpoint was enabled."""
        if self._json:
            return self._print_json({"enabled": True, "endpoint": url})
        self._console.print(f"enabled: {_plain(url)}")
        return None

    def _print_json(self, said: object) -> None:
        print(msgspec.json.encode(said).decode())


def _plain(text: str) -> str:
    """Text from outside, which is no markup of ours."""
    return _printable(text).replace("[", "\\[")


def _printable(text: str) -> str:
    """Text from outside, which steers no terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
