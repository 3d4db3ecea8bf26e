"""
The emulator's doors: `/v3/ws`, `/v3/token`, and beside them `GET /ledger`, `GET|POST /faults`, `POST /reset`.

In a test::

    async with Emulator(faults=Faults(at={0: Cut(second=3.2)})) as emulator:
        ...  # point the client at emulator.url
        await emulator.wait(lambda: emulator.ledger.totals.open == 0, timeout=5)
        assert emulator.ledger.totals.abandoned == 0
"""

import asyncio
import json
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, Self

from aiohttp import web

from gateway.emulator import parameters
from gateway.emulator.connection import Connection, refuse, reset
from gateway.emulator.faults import Faults, as_mapping, from_mapping
from gateway.emulator.ledger import Ledger, Session
from gateway.emulator.parameters import Refusal
from gateway.emulator.recogniser import Recognition, recognition
from gateway.emulator.tokens import Mint
from gateway.errors import ConfigurationFault

LONGEST_MESSAGE: Final = 128 * 1024
_CLOSE_SECONDS: Final = 5.0
_MINUTE: Final = 60.0
_STALLED_BUFFER: Final = 16 * 1024


class Emulator:
    """
    The service on a port of its own, while it is entered.

    *port* 0 takes a free one. *keys* are the API keys it knows; None takes any. *recogniser* is a name or made already.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults | None = None,
        recogniser: str | Recognition = "tones",
        keys: frozenset[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self.port = port
        self.ledger = Ledger(clock)
        self._recognition = recognition(recogniser) if isinstance(recogniser, str) else recogniser
        self._clock = clock
        self._mint = Mint(keys)
        self._faults = faults or Faults()
        self._handshakes_refused = 0
        self._outage_until = 0.0
        self._begun: deque[float] = deque()
        self._connections: set[Connection] = set()
        self._changed = asyncio.Event()
        self._open = AsyncExitStack()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._recognition)
        app = web.Application()
        app.router.add_get("/v3/ws", self._connect)
        app.router.add_get("/v3/token", self._token)
        app.router.add_get("/ledger", self._show_ledger)
        app.router.add_get("/faults", self._show_faults)
        app.router.add_post("/faults", self._set_faults)
        app.router.add_post("/reset", self._reset)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self._open.push_async_callback(self._runner.cleanup)
        self._open.callback(self._drop_all)
        await self.listen()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._open.aclose()

    @property
    def url(self) -> str:
        """Where sessions connect: what `GATEWAY_ASSEMBLYAI_URL` and the SDK's `api_host` take."""
        return f"ws://{self.host}:{self.port}"

    @property
    def http_url(self) -> str:
        """Where tokens, the ledger and the knobs are."""
        return f"http://{self.host}:{self.port}"

    @property
    def sessions(self) -> list[Session]:
        """The ledger's lines, in order of their numbers."""
        return self.ledger.sessions

    @property
    def faults(self) -> Faults:
        """The knobs; a new value holds for sessions from now on, and starts the count of refused handshakes anew."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._handshakes_refused = 0
        self._outage_until = 0.0

    async def listen(self) -> None:
        """Listen, again on the same port after `refuse_connections`."""
        if self._site is None and self._runner is not None:
            self._site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
            await self._site.start()
            _, self.port, *_ = self._runner.addresses[0]

    async def refuse_connections(self) -> None:
        """Stop listening: TCP connections are refused. Sessions that are open go on."""
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def wait(self, condition: Callable[[], bool], timeout: float = 5.0) -> None:  # noqa: ASYNC109  a test's patience
        """
        Return as soon as *condition* holds, asked anew at each change of the ledger.

        Raises:
            TimeoutError: If it does not in time; the message tells how the ledger stands.
        """
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {timeout} s: {self.ledger.totals}") from None

    def reset(self) -> None:
        """Forget all sessions and faults; the next session is number 0."""
        self.ledger = Ledger(self._clock)
        self.faults = Faults()
        self._begun.clear()
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _drop_all(self) -> None:
        for connection in self._connections:
            connection.stop()

    # A session.

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        faults = self._faults
        if self._refuses():
            self.ledger.refused_handshakes += 1
            self._change()
            if faults.refuse_status:
                return web.Response(status=faults.refuse_status, text="refused\n")
            if request.transport is not None:
                reset(request.transport)
            return web.Response(status=503)  # which nobody reads
        if faults.upgrade_delay_seconds:
            await asyncio.sleep(faults.upgrade_delay_seconds)
        if request.transport is None or request.transport.is_closing():
            return web.Response(status=408)  # nobody is there to read it
        socket_ = web.WebSocketResponse(
            timeout=_CLOSE_SECONDS,
            autoping=False,
            autoclose=False,
            compress=faults.deflate,
            max_msg_size=LONGEST_MESSAGE + 1,
        )
        await socket_.prepare(request)
        await self._serve(request, socket_)
        return socket_

    async def _serve(self, request: web.Request, socket_: web.WebSocketResponse) -> None:
        authorization, token = request.headers.get("Authorization"), request.query.get("token")
        line = self.ledger.open(str(uuid.uuid4()), _credential(authorization, token))
        knobs = self._faults.of(line.number)
        self._change()
        try:
            cap = self._mint.admit(authorization, token, self._clock())
            line.parameters = parameters.parse(request.query_string)
            self._count_session()
        except Refusal as refusal:
            line.end(refusal.ending, self._clock())
            self._change()
            await refuse(socket_, refusal)
            return
        if knobs.stall_second is not None and request.transport is not None:
            sock = request.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STALLED_BUFFER)  # so that it is soon full
        connection = Connection(
            request,
            socket_,
            line,
            cap_seconds=cap if knobs.session_seconds is None else knobs.session_seconds + 2,
            recognition=self._recognition,
            knobs=knobs,
            clock=self._clock,
            cut=self._start_outage,
            changed=self._change,
        )
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            line.end("fault:stopped", self._clock())
            self._change()

    def _refuses(self) -> bool:
        if self._clock() < self._outage_until:
            return True
        if self._handshakes_refused < self._faults.refuse_handshakes:
            self._handshakes_refused += 1
            return True
        return False

    def _start_outage(self) -> None:
        self._outage_until = self._clock() + self._faults.outage_seconds

    def _count_session(self) -> None:
        """
        Admit a session to this minute.

        Raises:
            Refusal: If the account has had its number.
        """
        limit, now = self._faults.sessions_per_minute, self._clock()
        while self._begun and self._begun[0] <= now - _MINUTE:
            self._begun.popleft()
        if limit is not None and len(self._begun) >= limit:
            code = self._faults.over_limit_code
            unauthorized = "Unauthorized Connection: " if code == 1008 else ""
            raise Refusal(code, unauthorized + "Too many concurrent sessions")
        self._begun.append(now)

    # The other routes.

    async def _token(self, request: web.Request) -> web.Response:
        faults = self._faults
        if faults.token_delay_seconds:
            await asyncio.sleep(faults.token_delay_seconds)
        if faults.token_status is not None:
            return web.json_response({"error": "unavailable", "code": faults.token_status}, status=faults.token_status)
        status, body = self._mint.issue(request.query, request.headers.get("Authorization"), self._clock())
        return web.json_response(body, status=status)

    async def _show_ledger(self, _: web.Request) -> web.Response:
        return web.json_response(self.ledger.as_json())

    async def _show_faults(self, _: web.Request) -> web.Response:
        return web.json_response(as_mapping(self._faults))

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self.faults = from_mapping(json.loads(await request.text() or "{}"))
        except (ConfigurationFault, ValueError) as error:
            return web.json_response({"error": str(error)}, status=422)
        return web.json_response(as_mapping(self._faults))

    async def _reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})


def _credential(authorization: str | None, token: str | None) -> str:
    """What kind of credential came; never which."""
    if token:
        return "token in query"
    if not authorization:
        return "none"
    return "token" if authorization.startswith("AQI") else "key"


async def serve(
    host: str,
    port: int,
    *,
    faults: Faults | None = None,
    recogniser: str = "tones",
    keys: frozenset[str] | None = None,
    listening: Callable[[Emulator], None],
    stop: asyncio.Event,
) -> Ledger:
    """Serve until *stop*; *listening* is told once the port is open. Returns how the ledger stood at the end."""
    async with Emulator(host=host, port=port, faults=faults, recogniser=recogniser, keys=keys) as emulator:
        listening(emulator)
        await stop.wait()
    return emulator.ledger
