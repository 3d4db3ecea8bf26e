"""One attempt, over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.delivery import Outcome
from gateway.webhooks.sender import ANSWER_BYTES, Sender
from tests.fakes.endpoint import Answer, Endpoint

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
BODY = b'{"type":"turn.final","timestamp":"2026-01-01T00:00:00Z","data":{"call":{"id":"A"},"sequence":1}}'


def sender(endpoint: Endpoint, **what: float) -> Sender:
    """Make a sender that may reach this machine."""
    return Sender(endpoint.keys, allowed=LOOPBACK, **what)  # type: ignore[arg-type]  # the one option is a float


@contextlib.asynccontextmanager
async def raw(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve a socket by hand."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_an_attempt_is_signed_by_every_secret_and_names_itself() -> None:
    """The headers of Standard Webhooks, the JSON as it was serialised, and no cookies or redirects of anybody's."""
    async with Endpoint(secrets=3) as endpoint, sender(endpoint) as sending:
        outcome = await sending.send(endpoint.url, "msg_1", BODY)

        assert (outcome.kind, outcome.status) == ("accepted", 204)
        (received,) = endpoint.received
        assert (received.id, received.body) == ("msg_1", BODY)
        assert received.headers["user-agent"] == "telephony-transcription-gateway"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(200, body=b"ok"), Outcome("accepted", 200)),
        (Answer(301, headers=(("location", "/elsewhere"),)), Outcome("redirected", 301)),
        (Answer(404), Outcome("refused", 404)),
        (Answer(410), Outcome("gone", 410)),
        (Answer(429, headers=(("retry-after", "7"),)), Outcome("throttled", 429, retry_after=7)),
        (
            Answer(503, headers=(("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"),)),
            Outcome("failed", 503, retry_after=0),
        ),
        (Answer(503, headers=(("retry-after", "soon"),)), Outcome("failed", 503)),
        (Answer(cut=True), Outcome("unreachable")),
    ],
)
async def test_every_answer_is_an_outcome(answer: Answer, outcome: Outcome) -> None:
    """The status decides; a redirect is not followed; a connection cut is an outcome too."""
    async with Endpoint(order=lambda _: answer) as endpoint, sender(endpoint) as sending:
        said = await sending.send(endpoint.url, "msg_1", BODY)

        assert (said.kind, said.status, said.retry_after) == (outcome.kind, outcome.status, outcome.retry_after)
        assert len(endpoint.received) == 1


async def test_retry_after_counts_on_the_receivers_clock() -> None:
    """A date in `Retry-After` is taken against the answer's own `Date`."""
    headers = (("date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("retry-after", "Wed, 21 Oct 2015 07:29:30 GMT"))
    async with Endpoint(order=lambda _: Answer(503, headers)) as endpoint, sender(endpoint) as sending:
        assert (await sending.send(endpoint.url, "msg_1", BODY)).retry_after == 90


async def test_a_huge_answer_is_not_read_to_its_end() -> None:
    """Of an answer's body a little is read, then the connection is closed; the status counts."""
    async with Endpoint(order=lambda _: Answer(200, drip=1 << 30)) as endpoint, sender(endpoint) as sending:
        outcome = await sending.send(endpoint.url, "msg_1", BODY)

        assert outcome.kind == "accepted"
        assert endpoint.dripped < 64 << 20
        assert ANSWER_BYTES == 16384


async def test_an_answer_that_never_comes_is_a_timeout() -> None:
    """An attempt ends in its time."""
    never = asyncio.Event()
    async with (
        Endpoint(order=lambda _: Answer(hold=never)) as endpoint,
        sender(endpoint, attempt_seconds=0.05) as sending,
    ):
        assert (await sending.send(endpoint.url, "msg_1", BODY)).kind == "timeout"
        never.set()


async def test_a_body_that_never_ends_does_not_hold_the_answer_back() -> None:
    """The status line is the answer: a body that hangs costs its connection, no more."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
        await reader.read()  # until the sender has had enough
        writer.close()

    async with Endpoint() as endpoint, raw(serve) as url, sender(endpoint) as sending:
        outcome = await sending.send(url, "msg_1", BODY)

        assert outcome.kind == "accepted"
        assert outcome.seconds < 0.9


async def test_what_is_not_http_is_an_outcome() -> None:
    """A port that speaks something else is said, and breaks nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with Endpoint() as endpoint, raw(serve) as url, sender(endpoint) as sending:
        assert (await sending.send(url, "msg_1", BODY)).kind == "malformed"


async def test_a_port_without_a_certificate_is_insecure() -> None:
    """TLS to a port that speaks none is an outcome of its own."""
    async with Endpoint() as endpoint, sender(endpoint) as sending:
        assert (await sending.send(endpoint.url.replace("http:", "https:"), "msg_1", BODY)).kind == "insecure"
        assert endpoint.received == []


async def test_a_closed_port_is_unreachable() -> None:
    """A refused connection is an outcome."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with Endpoint() as endpoint, sender(endpoint) as sending:
            assert (
                await sending.send(f"http://127.0.0.1:{closed.getsockname()[1]}/", "msg_1", BODY)
            ).kind == "unreachable"


async def test_a_kept_connection_that_died_is_told_from_a_dead_receiver() -> None:
    """A request that meets a connection the receiver had closed for idleness says so; the first on a new one does not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.readuntil(b"}}")
        writer.transport.abort()

    async with Endpoint() as endpoint, raw(serve) as url, sender(endpoint) as sending:
        first = await sending.send(url, "msg_1", BODY)
        second = await sending.send(url, "msg_2", BODY)

        assert (first.kind, first.stale) == ("accepted", False)
        assert (second.kind, second.stale) == ("unreachable", True)


class Names(AbstractResolver):
    """A name server that says whatever it was told to, another thing each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve *host*."""
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0x7f.1:{port}/",
        "http://2130706433:{port}/",
        "http://0.0.0.0:{port}/",
        "http://user:pw@127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/",
        "http://",
        "nonsense",
        "http://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1:{port}/",
    ],
)
async def test_what_is_not_allowed_is_never_dialled(url: str) -> None:
    """Without allowed ranges nothing on this machine is reached, however it is spelled; the outcome says why."""
    async with Endpoint() as endpoint, Sender(endpoint.keys) as sending:
        outcome = await sending.send(url.format(port=endpoint.port), "msg_1", BODY)

        assert outcome.kind in {"blocked", "unreachable"}
        assert outcome.kind == "blocked" or "0x7f.1" in url or "2130706433" in url
        assert endpoint.received == []


async def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    """The address dialled is judged at each connection: a name that leads here the second time is refused then."""
    names = Names(["127.0.0.1"])
    async with Endpoint() as endpoint, Sender(endpoint.keys, resolver=names) as sending:
        assert (await sending.send(f"http://public.example:{endpoint.port}/", "msg_1", BODY)).kind == "blocked"
        assert endpoint.received == []
    names = Names(["169.254.169.254", "127.0.0.1"])
    async with Endpoint() as endpoint, Sender(endpoint.keys, allowed=LOOPBACK, resolver=names) as sending:
        assert (await sending.send(f"http://crm.example:{endpoint.port}/", "msg_1", BODY)).kind == "accepted"
        assert len(endpoint.received) == 1


async def test_a_shorter_time_may_be_given() -> None:
    """One attempt may be given less time than others have."""
    never = asyncio.Event()
    async with Endpoint(order=lambda _: Answer(hold=never)) as endpoint, sender(endpoint) as sending:
        assert (await sending.send(endpoint.url, "msg_1", BODY, seconds=0.05)).kind == "timeout"
        never.set()
