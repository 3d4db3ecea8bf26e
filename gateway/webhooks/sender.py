"""One attempt: sign, POST, and say how it ended. Whatever the far side does becomes an `Outcome`; nothing of it is raised."""

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Sequence
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from types import SimpleNamespace, TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.delivery import Outcome, OutcomeKind
from gateway.webhooks.destination import Network, refusal, url_fault
from gateway.webhooks.retry import parse_retry_after
from gateway.webhooks.signing import headers

ATTEMPT_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 5.0
ANSWER_BYTES: Final = 16384
"""Of an answer's body, read so that its connection can be used again; of a longer one, the connection is closed."""
ANSWER_SECONDS: Final = 1.0
"""The status is the answer; its body is waited for no longer than this."""
STALE_SECONDS: Final = 1.0
"""A connection that was kept open and dies sooner under a request had been closed for its idleness."""
USER_AGENT: Final = "telephony-transcription-gateway"

_REFUSED = "this destination is not allowed"
_reused: ContextVar[list[bool]] = ContextVar("reused")


class Sender:
    """POSTs events over kept-open connections to addresses that are allowed, and to no other."""

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        allowed: Sequence[Network] = (),
        connections: int = 512,
        attempt_seconds: float = ATTEMPT_SECONDS,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._keys = tuple(keys)
        """Newest first; each signs."""
        self._allowed = tuple(allowed)
        self._connections = connections
        self._seconds = attempt_seconds
        self._resolver = resolver

    async def __aenter__(self) -> Self:
        # Whether an address is allowed depends on the scheme, which a socket factory does not see: hence two of all.
        self._sessions = {scheme: self._session(secure=scheme == "https") for scheme in ("http", "https")}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    async def send(self, endpoint: str, webhook_id: str, body: bytes, *, seconds: float | None = None) -> Outcome:
        """Make one attempt, of at most `seconds` in all (15)."""
        begun = time.monotonic()
        if url_fault(endpoint) is not None:
            return Outcome("blocked")
        reused: list[bool] = []
        _reused.set(reused)
        limit = self._seconds if seconds is None else min(seconds, self._seconds)
        try:
            async with asyncio.timeout(limit):
                response = await self._post(URL(endpoint), webhook_id, body)
        except TimeoutError:
            return Outcome("timeout", seconds=time.monotonic() - begun)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            seconds = time.monotonic() - begun
            kind = _kind(error)
            return Outcome(
                kind, stale=kind == "unreachable" and bool(reused) and seconds < STALE_SECONDS, seconds=seconds
            )
        retry_after = _retry_after(response.headers.get("retry-after"), response.headers.get("date"), time.time())
        outcome = Outcome(_judge(response.status), response.status, retry_after, seconds=time.monotonic() - begun)
        await _drain(response)
        return outcome

    async def _post(self, url: URL, webhook_id: str, body: bytes) -> aiohttp.ClientResponse:
        # "the signature and `webhook-timestamp` are made anew at each" attempt
        signed = headers(self._keys, webhook_id, int(time.time()), body)
        return await self._sessions[url.scheme].post(url, data=body, headers=signed, allow_redirects=False)

    def _session(self, *, secure: bool) -> aiohttp.ClientSession:
        def dial(
            address: tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]],
        ) -> socket.socket:
            family, kind, protocol, _, where = address
            if refusal(str(where[0]), self._allowed, secure=secure) is not None:
                raise PermissionError(errno.EACCES, _REFUSED)
            opened = socket.socket(family, kind, protocol)
            opened.setblocking(False)
            return opened

        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections,
                ttl_dns_cache=30,
                keepalive_timeout=30,
                happy_eyeballs_delay=None,
                socket_factory=dial,
                resolver=self._resolver,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers={"user-agent": USER_AGENT, "accept": "*/*"},
            skip_auto_headers=("accept-encoding",),
            auto_decompress=False,  # an answer is not worth being unpacked
            trust_env=False,
            trace_configs=[trace],
        )


async def _note_reuse(
    _session: aiohttp.ClientSession, _trace: SimpleNamespace, _parameters: aiohttp.TraceConnectionReuseconnParams
) -> None:
    _reused.get().append(True)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the answer's body to its end and give the connection back; one too long or too slow costs its connection, no more."""
    remaining = ANSWER_BYTES
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while remaining > 0 and (chunk := await response.content.read(remaining)):
                remaining -= len(chunk)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        pass  # the status is the answer, and it is known
    finally:
        response.close()  # where the body was read to its end, the connection is back in the pool already


def _judge(status: int) -> OutcomeKind:
    match status:
        case 410:
            return "gone"
        case 429:
            return "throttled"
        case _ if 200 <= status < 300:
            return "accepted"
        case _ if 300 <= status < 400:
            return "redirected"
        case _ if 400 <= status < 500:
            return "refused"
        case _:
            return "failed"


def _kind(error: Exception) -> OutcomeKind:
    match error:
        case aiohttp.ClientConnectorError() if _REFUSED in str(error.os_error):
            return "blocked"
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return "insecure"
        case aiohttp.InvalidURL():
            return "blocked"
        case aiohttp.ServerTimeoutError():
            return "timeout"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "malformed"
        case aiohttp.ClientError() | OSError():
            return "unreachable"
        case _:
            return "malformed"


def _retry_after(value: str | None, date: str | None, now: float) -> float | None:
    """Read `Retry-After`; a date in it is the receiver's, so it counts from the receiver's own `Date` where there is one."""
    if value is None:
        return None
    if date is not None:
        with contextlib.suppress(ValueError):
            now = parsedate_to_datetime(date).timestamp()
    return parse_retry_after(value, now)
