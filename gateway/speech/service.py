"""The speech service as one thing that opens sessions: admission before, the ledger around, money after."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import structlog

from gateway.call import Track
from gateway.cost import DEFAULT_MODEL, Rates
from gateway.metrics import Metrics
from gateway.speech import protocol
from gateway.speech.admission import Admission
from gateway.speech.ledger import Entry, Ledger, StoredSession
from gateway.speech.losses import Loss, judge
from gateway.speech.parameters import session_url
from gateway.speech.protocol import State
from gateway.speech.session import ORDINARY, Hearer, Patience, Session
from gateway.speech.tokens import NoToken, Tokens
from gateway.tasks import Nursery

_log = structlog.get_logger()

_DAY: Final = 86_400
_LATE_SECONDS: Final = 40.0
"""A session that neither began nor ended by now has lost its own deadlines: a bug, cut all the same."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a leg asks for."""

    call_id: str
    track: Track
    number: int
    """1, 2, 3, … within the leg."""
    speech: Mapping[str, object]
    hearer: Hearer
    owned: Callable[[], bool]
    """Whether somebody still feeds it."""
    keep: Callable[[StoredSession], Awaitable[None]]
    """Make it survive a crash; awaited before the connect."""


class Service:
    """Opens sessions at one address with one key, over one HTTP client. `opening()` makes it."""

    def __init__(
        self,
        *,
        client: aiohttp.ClientSession,
        nursery: Nursery,
        url: str,
        api_key: str,
        terminate_seconds: float,
        sessions_per_minute: int,
        rates: Rates,
        metrics: Metrics,
        tokens: Tokens | None,
        patience: Patience = ORDINARY,
    ) -> None:
        self._client = client
        self._nursery = nursery
        self._url = url
        self._api_key = api_key
        self._terminate_seconds = terminate_seconds
        self._metrics = metrics
        self._tokens = tokens
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[str, Session] = {}
        self._spent: tuple[int, float] = (0, 0.0)
        self.rates = rates
        self.ledger = Ledger(self._loop.time)
        self.admission = Admission(sessions_per_minute, self._loop.time, random.random)

    def dial(self, order: Order) -> Session:
        """
        Open a session: at once in the ledger, then in the store, then at the service. Await its `opened()`.

        `admission.enter` must have let the caller in; what becomes of it is told from here.
        """
        key = f"{order.track}-{order.number}-{random.getrandbits(64):016x}"
        entry = Entry(
            key=key,
            call_id=order.call_id,
            track=order.track,
            number=order.number,
            model=str(order.speech.get("speech_model") or DEFAULT_MODEL),
            speech=order.speech,
            usd_per_hour=self.rates.usd_per_hour(order.speech),
            dialled_at=self._loop.time(),
            owned=order.owned,
        )
        session = Session(
            key=key,
            number=order.number,
            speech=order.speech,
            terminate_seconds=self._terminate_seconds,
            hearer=_Counted(self, entry, order),
            patience=self._patience,
        )
        entry.ending = lambda: session.state is State.TERMINATING
        self.ledger.add(entry)
        self._sessions[key] = session
        self._nursery.start(self._carry(session, entry, order), name=f"session {key} of {order.call_id}")
        return session

    def sweep(self) -> None:
        """Once a second: sessions whose line is dead, that nobody owns, or whose deadline was lost."""
        now = self._loop.time()
        for entry in self.ledger:
            session = self._sessions.get(entry.key)
            if session is None or session.over:
                continue
            if session.state is State.CONNECTING:
                if now - entry.dialled_at > _LATE_SECONDS:
                    session.lose(Loss("no_begin", None, "no Begin in time"))
                elif not entry.owned():
                    session.terminate()  # as soon as it begins, if it does
            elif session.state is State.TERMINATING:
                if session.terminate_by is not None and now > session.terminate_by + 1:
                    session.unconfirm()
            elif not entry.owned():
                _log.error("session without an owner", call_id=entry.call_id, session=entry.key)
                session.unowned = True
                session.lose(Loss("closed", None, "nobody owned it", begun=True))
            elif (why := session.live.stalled(now)) is not None:
                session.lose(Loss("stalled", None, why, begun=True))

    def terminate_all(self) -> float:
        """Terminate every session; the loop's seconds by which each must be over, whatever it does."""
        for session in self._sessions.values():
            session.terminate()
        # One that has not begun may still do so, late.
        late = self._loop.time() + self._patience.begin + self._patience.late_begin + self._terminate_seconds
        by = max((session.terminate_by or 0.0 for session in self._sessions.values()), default=0.0)
        return max(late, by) + self._patience.close + 1

    def session_of(self, key: str) -> Session | None:
        """A session that is in the ledger."""
        return self._sessions.get(key)

    def record(self, session: Session, opened_at: float) -> tuple[StoredSession, ...]:
        """What the store should know of a session; nothing of one that has left the ledger. *opened_at* in epoch seconds."""
        return tuple(stored(entry, session, opened_at=opened_at) for entry in self.ledger if entry.key == session.key)

    def spend(self, usd: float) -> None:
        """Count money that was spent, on the UTC day it is known."""
        today = int(time.time() // _DAY)
        day, spent = self._spent
        self._spent = (today, usd + (spent if day == today else 0.0))

    def spent_today(self) -> float:
        """US dollars since midnight UTC, open sessions included."""
        day, spent = self._spent
        return (spent if day == int(time.time() // _DAY) else 0.0) + self.ledger.accruing_usd()

    async def _carry(self, session: Session, entry: Entry, order: Order) -> None:
        try:
            await order.keep(stored(entry, session, opened_at=time.time()))
            try:
                authorization = self._api_key if self._tokens is None else await self._tokens.take()
            except NoToken as none:
                session.lose(none.loss)
                return
            await session.run(self._client, session_url(self._url, order.speech), authorization)
        finally:
            session.lose(Loss("overdue", None, "not dialled"))  # where it is over already, nothing
            del self._sessions[entry.key]
            self.ledger.close(entry.key)
            if session.unconfirmed or session.unowned:
                self.ledger.zombie(entry.key, entry.bound_seconds)

    def told_began(self, session: Session, entry: Entry) -> None:
        entry.begun_at = session.begun_at
        self.admission.began()
        self._metrics.session_connect_seconds.observe(self._loop.time() - session.dialled_at)

    def told_over(self, session: Session) -> None:
        loss = session.loss
        begun = session.begun_at is not None
        if loss is not None and loss.kind not in {"overdue", "unconfirmed"}:
            self._metrics.service_errors_total.labels(loss.label).inc()
        verdict = "rest" if loss is None else judge(loss)
        if verdict == "token" and self._tokens is not None:
            self._tokens.forget()
        if verdict == "circuit":
            _log.error("the speech service refuses the account", loss=str(loss))
            self.admission.refused(str(loss), begun=begun)
        elif verdict == "crowded":
            self.admission.crowded(begun=begun)
        elif not begun:
            reached = loss is None or loss.kind not in {"unreachable", "http", "overdue"}
            self.admission.ended(reached=reached)

    def told_message(self, message: protocol.Message, entry: Entry) -> None:
        if isinstance(message, protocol.Malformed | protocol.Unknown):
            self._metrics.malformed_total.labels("assemblyai").inc()
            what = message.why if isinstance(message, protocol.Malformed) else f"unknown {message.kind}"
            _log.debug("message not understood", source="assemblyai", what=what, call_id=entry.call_id)
        elif isinstance(message, protocol.Warning):
            _log.warning(
                "the speech service warns", code=message.warning_code, text=message.warning[:200], call_id=entry.call_id
            )

    def code_of(self, loss: Loss) -> str:
        """The metric label of a loss."""
        return loss.label


class _Counted:
    """Between a session and its leg: what the service itself has to know of it."""

    def __init__(self, service: Service, entry: Entry, order: Order) -> None:
        self._service = service
        self._entry = entry
        self._order = order

    def began(self, session: Session) -> None:
        self._service.told_began(session, self._entry)
        self._order.hearer.began(session)

    def heard(self, session: Session, message: protocol.Message) -> None:
        self._service.told_message(message, self._entry)
        self._order.hearer.heard(session, message)

    def over(self, session: Session) -> None:
        self._service.told_over(session)
        self._order.hearer.over(session)


def stored(entry: Entry, session: Session, *, opened_at: float) -> StoredSession:
    """A session as a crash must find it."""
    return StoredSession(
        key=entry.key,
        track=entry.track,
        number=entry.number,
        model=entry.model,
        session_id=session.id,
        opened_at=opened_at,
        usd_per_hour=entry.usd_per_hour,
        bound_seconds=entry.bound_seconds,
    )


@asynccontextmanager
async def opening(
    *,
    url: str,
    api_key: str,
    terminate_seconds: float,
    sessions_per_minute: int,
    rates: Rates,
    metrics: Metrics,
    token_cap_seconds: int | None,
    patience: Patience = ORDINARY,
) -> AsyncIterator[Service]:
    """
    A service, ready: one HTTP client and TLS context for all sessions. Leaving it terminates what is open and waits for its close.

    `token_cap_seconds`: each session on its own temporary token, which ends it after so long; None: on the key itself.
    """
    # One connector: `limit=0` since a session is a connection for hours, not a request that waits its turn.
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
    limit = asyncio.timeout(None)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": "telephony-transcription-gateway"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_no_redirects()],
            ) as client,
            limit,
            Nursery() as nursery,
        ):
            tokens = None if token_cap_seconds is None else Tokens(client, url, api_key, token_cap_seconds)
            service = Service(
                client=client,
                nursery=nursery,
                url=url,
                api_key=api_key,
                terminate_seconds=terminate_seconds,
                sessions_per_minute=sessions_per_minute,
                rates=rates,
                metrics=metrics,
                tokens=tokens,
                patience=patience,
            )
            keeper = None if tokens is None else nursery.start(tokens.run(), name="session tokens")
            try:
                yield service
            finally:
                if keeper is not None:
                    keeper.cancel()
                # Each session has a deadline of its own; this one is for a bug of ours.
                limit.reschedule(service.terminate_all())
    except TimeoutError:
        if not limit.expired():
            raise
        _log.error("sessions did not end in time")


def _no_redirects() -> aiohttp.TraceConfig:
    """Audio and key go where the operator said, and nowhere else; aiohttp's WebSocket client has no option for it."""

    async def refuse(_: object, __: object, asked: aiohttp.TraceRequestRedirectParams) -> None:
        answer = asked.response
        raise aiohttp.WSServerHandshakeError(answer.request_info, (), status=answer.status, message="redirected")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace
