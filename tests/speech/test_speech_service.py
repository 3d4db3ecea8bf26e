"""The service as one thing: what it tells the admission, the ledger, the metrics and the log."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families as parse
from structlog.testing import capture_logs

from gateway.call import Track
from gateway.cost import Rates
from gateway.emulator.faults import Failure, Faults
from gateway.emulator.server import Emulator
from gateway.emulator.tones import script, spelled
from gateway.errors import StoreFault
from gateway.speech import protocol
from gateway.speech.ledger import Entry, Ledger, StoredSession
from gateway.speech.losses import Loss
from gateway.speech.protocol import State
from gateway.speech.service import Service
from gateway.speech.session import Session
from tests.speech.line import BEGIN, KEY, SPEECH, Heard, Peer, closed, dial, house, opened, order, raw_peer, speak
from tests.speech.loops import WIRE

LOOPS: Final = WIRE
AT_ONCE: Final = Faults(begin_delay_seconds=0, speed=None)


async def sample(service: Service, name: str, **labels: str) -> float:
    """One sample of the metrics."""
    body, _ = await service._metrics.render(None)
    found = [
        one.value
        for family in parse(body.decode())
        for one in family.samples
        if one.name == f"gateway_{name}" and one.labels == labels
    ]
    assert len(found) == 1, (name, labels)
    return found[0]


def rests(service: Service) -> float:
    """Seconds until a session might be opened."""
    return service.admission._bucket.wait(asyncio.get_running_loop().time())


# What becomes of those that were let in


@pytest.mark.parametrize(
    ("failure", "circuit", "crowded"),
    [
        (Failure(1008, "Unauthorized Connection: insufficient balance"), True, False),
        (Failure(1008, "Too many concurrent sessions"), False, True),
        (Failure(3009, "Too many concurrent sessions"), False, True),
        (Failure(3006, "no such model"), False, False),
        (Failure(3005, "An error occurred"), False, False),
    ],
)
@pytest.mark.parametrize("second", [None, 0.5])
async def test_what_a_refusal_does_to_all(
    failure: Failure, second: float | None, *, circuit: bool, crowded: bool
) -> None:
    """Before Begin or in the middle of a call: a bad account opens the circuit, a crowd makes everybody rest, nothing else does."""
    faults = AT_ONCE.but(at={0: Failure(failure.code, failure.text, second)})
    async with Emulator(faults=faults) as emulator, house(emulator.url) as service:
        session = await dial(service, Heard())
        if second is not None:
            await session.opened()
            await speak(session, 1.0)
        await session.ended()
        assert (service.admission.circuit is not None, rests(service) > 1) == (circuit, crowded)
        assert await sample(service, "service_errors_total", code=str(failure.code)) == 1
        await closed(service)
        if circuit:
            assert service.admission.circuit == str(Loss("error", failure.code, failure.text))
            another = service.dial(order(Heard()))
            assert await another.opened()
            assert service.admission.circuit is None


@pytest.mark.parametrize(("status", "counts"), [(401, True), (503, False), (404, False), (429, True)])
async def test_what_a_refused_handshake_counts(status: int, *, counts: bool) -> None:
    """What never came to the service does not use up the minute; its answer to the account does."""
    async with (
        Emulator(faults=AT_ONCE.but(refuse_handshakes=1, refuse_status=status)) as emulator,
        house(emulator.url) as service,
    ):
        session = await dial(service, Heard())
        await session.ended()
        bucket = service.admission._bucket
        assert (bucket._level < bucket._capacity - 0.5) == counts
        assert (service.admission.circuit is not None) == (status == 401)
        assert (rests(service) > 1) == (status == 429)


async def test_nobody_there_costs_nothing() -> None:
    """Legs that try again and again while the service is away find their minute whole when it is back."""
    async with raw_peer(b"") as url, house(url, per_minute=3) as service:
        for _ in range(10):
            session = await dial(service, Heard())
            assert not await session.opened()
        assert rests(service) == 0


async def test_a_session_s_ordinary_life_in_the_metrics() -> None:
    """Its connect is timed, nothing is an error, what was not understood is counted."""

    async def act(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str(BEGIN)
        await socket.send_str('{"type":"Sparkle"}')
        await socket.send_bytes(b"?")
        await socket.send_str('{"type":"Warning","warning_code":7,"warning":"mind the gap"}')
        await peer.until_terminate(socket)
        await socket.send_str('{"type":"Termination"}')
        await socket.close()

    heard = Heard()
    async with Peer(act) as peer, house(peer.url) as service:
        session = await opened(service, heard)
        await heard.until(lambda: len(heard.messages) == 3)
        session.terminate()
        await session.ended()
        assert await sample(service, "session_connect_seconds_count") == 1
        assert await sample(service, "malformed_total", source="assemblyai") == 2
        for code in ("connect", "1000", "1006", "1011"):
            assert await sample(service, "service_errors_total", code=code) == 0


async def test_a_label_for_every_loss() -> None:
    """`session_reconnects_total` knows whatever it is given."""
    async with house("ws://127.0.0.1:9") as service:
        for loss in (Loss("closed", 1002), Loss("http", 502), Loss("no_begin"), Loss("error", 77)):
            service._metrics.session_reconnects_total.labels(service.code_of(loss)).inc()
        assert await sample(service, "session_reconnects_total", code="1011") == 2


# The ledger and the store


async def test_the_store_knows_first() -> None:
    """Before a session is dialled it is written down; once it has begun, with its id; after its end there is nothing to know."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        [kept] = heard.kept
        assert (kept.key, kept.session_id, kept.model) == (session.key, None, "universal-3-5-pro")
        assert kept.usd_per_hour == pytest.approx(Rates().usd_per_hour(SPEECH))
        assert kept.bound_seconds == 60
        assert abs(kept.opened_at - time.time()) < 5
        [known] = service.record(session, 1234.5)
        assert (known.key, known.session_id, known.opened_at) == (session.key, session.id, 1234.5)
        assert service.session_of(session.key) is session
        session.terminate()
        await closed(service)
        assert service.record(session, 0.0) == ()
        assert service.session_of(session.key) is None


async def test_a_store_that_fails() -> None:
    """A session that cannot be written down is not dialled; its leg is told, and the ledger is empty."""

    class Failing(Heard):
        async def keep(self, stored: StoredSession) -> None:
            raise StoreFault("disk full")

    heard = Failing()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await dial(service, heard)
        assert not await session.opened()
        assert session.loss is not None
        assert session.loss.kind == "overdue"
        await closed(service)
        assert (emulator.sessions, heard.ended, rests(service)) == ([], [session], 0)


async def test_parameters_that_cannot_be_written() -> None:
    """A bug of ours in them is a session that is not dialled, and a leg that knows."""
    async with house("ws://127.0.0.1:9") as service:
        session = await dial(service, Heard(), sample_rate="fast")
        assert not await session.opened()
        await closed(service)


async def test_money() -> None:
    """What was spent today, and what the open ones have cost so far."""
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        service.spend(1.5)
        service.spend(0.25)
        assert service.spent_today() == pytest.approx(1.75)
        service._spent = (service._spent[0] - 1, 1.75)
        assert service.spent_today() == 0
        session = await opened(service, Heard())
        [entry] = service.ledger
        assert entry.begun_at is not None
        entry.begun_at -= 3600
        assert service.spent_today() == pytest.approx(Rates().usd_per_hour(SPEECH), rel=0.01)
        assert service.ledger.oldest() == pytest.approx(3600, abs=5)
        session.terminate()
        await closed(service)
        service.spend(0.5)
        assert service.spent_today() == 0.5


def entry(key: str, *, call: str = "CA1", track: Track = "inbound", owned: bool = True, begun_at: float | None = None,
          speech: Mapping[str, object] = SPEECH) -> Entry:  # fmt: skip
    """A session in the ledger."""
    return Entry(key, call, track, 1, "m", speech, 0.6, 10.0, lambda: owned, begun_at)


def test_the_ledger() -> None:
    """What is open, of which call, how old, at what price; what is not in it any more is nothing."""
    now = 100.0
    ledger = Ledger(lambda: now)
    assert (ledger.open(), ledger.oldest(), ledger.accruing_usd()) == ({"inbound": 0, "outbound": 0}, 0, 0)
    for one in (entry("a"), entry("b", begun_at=40.0), entry("c", call="CA2", track="outbound", begun_at=64.0)):
        ledger.add(one)
    assert ledger.open() == {"inbound": 1, "outbound": 1}
    assert [ledger.of_call(call) for call in ("CA1", "CA2", "CA3")] == [2, 1, 0]
    assert ledger.oldest() == 60
    assert ledger.accruing_usd() == pytest.approx((60 + 36) / 3600 * 0.6)
    assert [one.since for one in ledger] == [10, 40, 64]
    for one in ledger:
        ledger.close(one.key)
    ledger.close("never was")
    assert list(ledger) == []


def test_zombies() -> None:
    """Open ones that nobody owns or ends; those that left the ledger without a word, until the service must have ended them."""
    now = 0.0
    ledger = Ledger(lambda: now)
    ledger.add(entry("a", begun_at=1.0))
    ledger.add(entry("not yet", owned=False))
    ending = entry("ending", owned=False, begun_at=1.0)
    ending.ending = lambda: True
    ledger.add(ending)
    assert ledger.zombies() == 0
    ledger.add(entry("b", owned=False, begun_at=1.0))
    assert ledger.zombies() == 1
    ledger.close("b")
    ledger.zombie("b", entry("b").bound_seconds)
    ledger.zombie("c", entry("c", speech={}).bound_seconds)
    assert ledger.zombies() == 2
    now = 60.1
    assert ledger.zombies() == 1
    now = 10_800.1
    assert ledger.zombies() == 0


# The sweep


async def test_a_session_that_lost_its_deadlines() -> None:
    """Neither begun nor ended, or terminating past its time: bugs of ours, and cut all the same."""
    async with Emulator(faults=AT_ONCE.but(never_begin=True)) as emulator, house(emulator.url) as service:
        session = await dial(service, Heard())
        await emulator.wait(lambda: bool(emulator.sessions))
        service.sweep()
        assert not session.over
        [line] = service.ledger
        line.dialled_at -= 41
        service.sweep()
        assert session.loss == Loss("no_begin", None, "no Begin in time")
        service.sweep()
        await closed(service)
        emulator.faults = AT_ONCE.but(never_acknowledge_terminate=True)
        session = await opened(service, Heard())
        session.terminate()
        service.sweep()
        assert session.state is State.TERMINATING
        assert session.terminate_by is not None
        session.terminate_by -= 100
        service.sweep()
        await closed(service)
        assert [session.unconfirmed] == [True]
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)


async def test_a_session_that_has_just_left() -> None:
    """An entry whose session is gone already is passed over."""
    async with house("ws://127.0.0.1:9") as service:
        service.ledger.add(entry("ghost"))
        service.sweep()
        service.ledger.close("ghost")


# The log


async def test_what_is_not_in_the_log() -> None:
    """No word of a turn and no key: through refusals that repeat it, broken messages, failing hearers and orphans."""

    class Failing(Heard):
        def heard(self, session: Session, message: protocol.Message) -> None:
            super().heard(session, message)
            if isinstance(message, protocol.Turn):
                raise ZeroDivisionError

    faults = AT_ONCE.but(
        extras=True,
        malformed=("not_json", "unknown_type", "wrong_type", "binary"),
        at={0: Failure(1008, f"Invalid API key {KEY}"), 1: Failure(1011, f"no {KEY}", 2.0)},
    )
    with capture_logs() as lines:
        async with Emulator(faults=faults) as emulator, house(emulator.url) as service:
            await dial(service, Heard())
            await closed(service)
            for _ in range(2):
                heard = Failing()
                session = service.dial(order(heard))
                assert await session.opened()
                await speak(session, 3.0)
                await heard.until(lambda: bool(heard.words))  # noqa: B023
                heard.owned = False
                service.sweep()
                await closed(service)
    said = {line["event"] for line in lines}
    assert {"the speech service refuses the account", "message could not be taken", "session without an owner"} <= said
    text = "\n".join(str(value) for line in lines for value in line.values())
    assert KEY not in text
    assert not {spelled(spoken.word) for spoken in script(3.0)} & set(text.split())
