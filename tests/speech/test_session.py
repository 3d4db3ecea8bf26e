"""One session over the wire, on both loops: how it opens, how it ends, how it is lost, and that nothing of it is left."""

import asyncio
from typing import Any, Final

import pytest
from aiohttp import WSCloseCode, web
from assemblyai.streaming.v3._base import _build_uri
from assemblyai.streaming.v3.models import RealTimeParameters

from gateway.emulator.faults import Cut, Failure, Faults, How
from gateway.emulator.server import Emulator
from gateway.emulator.tones import script, spelled
from gateway.errors import StateFault
from gateway.speech import protocol
from gateway.speech.liveness import Liveness
from gateway.speech.losses import Loss
from gateway.speech.pacing import Backlog
from gateway.speech.protocol import State
from gateway.speech.session import MESSAGE_LIMIT, Patience, Session
from tests.speech.line import (
    BEGIN,
    CHUNK_MS,
    KEY,
    SPEECH,
    TERMINATION,
    Heard,
    Peer,
    chunks,
    closed,
    dial,
    house,
    opened,
    order,
    raw_peer,
    speak,
    works,
)
from tests.speech.loops import WIRE

LOOPS: Final = WIRE
AT_ONCE: Final = Faults(begin_delay_seconds=0, speed=None)


def nothing_leaked(emulator: Emulator, *, sessions: int = 1) -> None:
    """The far side's ledger: as many sessions as were meant, none open, none abandoned, no rule broken."""
    totals = emulator.ledger.totals
    assert (totals.opened, totals.open, totals.abandoned) == (sessions, 0, 0), [s.ended for s in emulator.sessions]
    assert all(not line.violations for line in emulator.sessions)


def state(session: Session) -> State:
    """Where it is now; it moves under our eyes."""
    return session.state


# Opening and ending


async def test_a_whole_session() -> None:
    """Begin, audio, Terminate, last turns, revision, Termination, close: in the ledger from before its connect to after its close."""
    in_ledger: list[bool] = []

    class Watching(Heard):
        async def keep(self, stored: Any) -> None:
            in_ledger.append(stored.key in {entry.key for entry in service.ledger} and not emulator.sessions)
            await super().keep(stored)

        def over(self, session: Session) -> None:
            in_ledger.append(session.key in {entry.key for entry in service.ledger})
            super().over(session)

    heard = Watching()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        assert state(session) is State.OPEN
        assert session.id == emulator.sessions[0].id
        assert service.ledger.open() == {"inbound": 1, "outbound": 0}
        await speak(session, 5.0)
        session.terminate()
        session.terminate()
        await session.ended()
        assert session.state is State.TERMINATED
        await closed(service)
        line = emulator.sessions[0]
        assert service.ledger.open() == {"inbound": 0, "outbound": 0}
    assert in_ledger == [True, True]
    assert heard.words == [spelled(spoken.word) for spoken in script(5.0)]
    assert heard.kinds[-2:] == ["SpeakerRevision", "Termination"]
    assert (session.loss, session.unconfirmed, session.sent_ms) == (None, False, 5000)
    assert session.termination is not None
    assert session.termination.audio_duration_seconds == 5
    assert (line.ended, line.audio_ms, line.authorization) == ("client_terminate", 5000, "key")
    nothing_leaked(emulator)


async def test_what_is_asked_on_the_wire() -> None:
    """The request line is the SDK's to the letter, the key is raw, the version named, no compression offered."""
    asked = {"prompt": "a,b:c/d?e@f~g!h'i(j)*k;l=m&n+o %20 é", "keyterms_prompt": ["O'Neil, x", "Ünï"]}

    async def refuse(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.close(code=1011)

    async with Peer(refuse) as peer, house(peer.url) as service:
        session = await dial(service, Heard(), **asked)
        assert not await session.opened()
        [request] = peer.requests
    uri = _build_uri(peer.url, RealTimeParameters.model_validate({**SPEECH, **asked}))
    assert peer.url + request.raw_path == uri
    assert request.headers["Authorization"] == KEY
    assert request.headers["AssemblyAI-Version"] == "2025-05-12"
    assert "Sec-WebSocket-Extensions" not in request.headers


async def test_terminated_while_it_connects() -> None:
    """Nothing can be said before Begin: it is said with it, and the session is none that anybody forgot."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE.but(begin_delay_seconds=0.1)) as emulator, house(emulator.url) as service:
        session = await dial(service, heard)
        await emulator.wait(lambda: bool(emulator.sessions))
        session.terminate()
        assert state(session) is State.CONNECTING
        await session.ended()
        await closed(service)
        assert session.state is State.TERMINATED
        assert heard.sessions == [session]
        nothing_leaked(emulator)


async def test_terminated_before_it_is_dialled() -> None:
    """A leg that hangs up while the store writes costs no session at all."""

    class Slow(Heard):
        async def keep(self, stored: Any) -> None:
            session.terminate()

    heard = Slow()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await dial(service, heard)
        assert not await session.opened()
        await closed(service)
        assert session.loss is not None
        assert session.loss.kind == "overdue"
        assert (emulator.sessions, heard.sessions, heard.ended) == ([], [], [session])


async def test_cancelling_who_listens() -> None:
    """Whoever waits for a session may be cancelled in any of its waits; the session stays whole."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE.but(begin_delay_seconds=0.05)) as emulator, house(emulator.url) as service:
        session = await dial(service, heard)
        async with asyncio.TaskGroup() as listeners:
            for waiting in (session.opened(), session.ended(), session.pause(60)):
                task = listeners.create_task(waiting)
                await asyncio.sleep(0)
                task.cancel()
        assert not session.over
        assert await session.opened()
        await speak(session, 1.0)
        session.terminate()
        await session.ended()
        await closed(service)
        nothing_leaked(emulator)


async def test_cancelling_the_session_itself() -> None:
    """Cancellation is a way out like any other: `Terminate`, last turns, Termination, close."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        await speak(session, 3.0)
        for task in works():
            task.cancel()
        await session.ended()
        await closed(service)
        assert session.state is State.TERMINATED
        assert heard.words == [spelled(spoken.word) for spoken in script(3.0)]
        assert service.ledger.zombies() == 0
        nothing_leaked(emulator)


async def test_cancelling_it_twice() -> None:
    """The second time it is cut, and called what it is: a session whose `Terminate` was not confirmed."""
    heard = Heard()
    faults = AT_ONCE.but(never_acknowledge_terminate=True)
    async with Emulator(faults=faults) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        [task] = works()
        task.cancel()
        await emulator.wait(lambda: emulator.sessions[0].terminated_at is not None)
        task.cancel()
        await asyncio.wait({task})
        assert session.unconfirmed
        assert service.ledger.zombies() == 1
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)


async def test_cancelled_before_it_began() -> None:
    """It is waited for, to be terminated; cut off even from that, it is no zombie, for nobody knows it to be open."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE.but(begin_delay_seconds=0.1)) as emulator, house(emulator.url) as service:
        await dial(service, heard)
        await emulator.wait(lambda: bool(emulator.sessions))
        [task] = works()
        task.cancel()
        await asyncio.wait({task})
        nothing_leaked(emulator)
        emulator.faults = AT_ONCE.but(never_begin=True)
        session = await dial(service, heard)
        await emulator.wait(lambda: len(emulator.sessions) == 2)
        [task] = works()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert (session.state, session.unconfirmed, service.ledger.zombies()) == (State.LOST, False, 0)


async def test_leaving_the_house_terminates_everybody() -> None:
    """Sessions that are open, connecting and ending when the service is left: all end as they should before it returns."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator:
        async with house(emulator.url) as service:
            for number in range(20):
                session = await opened(service, heard)
                if number % 2:
                    await speak(session, 0.5)
                if number % 5 == 0:
                    session.terminate()
            emulator.faults = AT_ONCE.but(begin_delay_seconds=0.1)
            for _ in range(5):
                await dial(service, heard)
        assert not any(service.ledger)
        assert {session.state for session in heard.ended} <= {State.TERMINATED, State.LOST}
        assert emulator.ledger.totals.terminated == len(emulator.sessions) >= 20
        nothing_leaked(emulator, sessions=len(emulator.sessions))


async def test_leaving_the_house_is_bounded() -> None:
    """A store that never answers, and a session that never begins, hold nobody up for ever."""

    class Stuck(Heard):
        async def keep(self, stored: Any) -> None:
            await asyncio.Event().wait()

    heard = Stuck()
    patience = Patience(begin=0.05, late_begin=0.05, close=0.05, tidy=0.05)
    async with Emulator(faults=AT_ONCE.but(never_begin=True)) as emulator, asyncio.timeout(5):
        async with house(emulator.url, terminate_seconds=0.05, patience=patience) as service:
            service.dial(order(heard))
            service.dial(order(Heard()))
        assert not any(service.ledger)
    assert [session.state for session in heard.ended] == [State.LOST]


async def test_a_house_that_falls() -> None:
    """An exception inside leaves no session open either."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator:

        async def fall(error: Exception) -> None:
            async with house(emulator.url) as service:
                await opened(service, heard)
                raise error

        for error in (ZeroDivisionError(), TimeoutError()):
            with pytest.raises(ExceptionGroup) as fallen:
                await fall(error)
            assert fallen.value.exceptions == (error,)
        assert [session.state for session in heard.ended] == [State.TERMINATED] * 2
        nothing_leaked(emulator, sessions=2)


async def test_a_short_key() -> None:
    """A key so short that it might be a word of a message is looked for in none."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url, api_key="e") as service:
        session = await opened(service, heard)
        session.terminate()
        await session.ended()
        assert (session.state, heard.kinds) == (State.TERMINATED, ["Termination"])


async def test_a_hundred_at_once() -> None:
    """All begin, all end, over one client."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url, patience=Patience()) as service:
        sessions = [await dial(service, heard) for _ in range(100)]
        assert all(await asyncio.gather(*(session.opened() for session in sessions)))
        assert service.ledger.of_call("CA1") == 100
        for session in sessions:
            session.terminate()
        await closed(service)
        nothing_leaked(emulator, sessions=100)


# Sessions that do not begin


async def test_a_begin_that_never_comes() -> None:
    """Who waits is told in time; the line is listened to a while longer, and then cut."""
    heard = Heard()
    patience = Patience(begin=0.1, late_begin=0.2)
    async with (
        Emulator(faults=AT_ONCE.but(never_begin=True)) as emulator,
        house(emulator.url, patience=patience) as service,
    ):
        session = await dial(service, heard)
        assert not await session.opened()
        assert session.loss == Loss("no_begin", None, "no Begin in time")
        assert session.state is State.CONNECTING
        await session.ended()
        await closed(service)
        assert session.loss == Loss("no_begin", None, "no Begin in time")
        assert service.ledger.zombies() == 0
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        nothing_leaked(emulator)


async def test_a_begin_that_comes_too_late() -> None:
    """The leg has gone on to another session; this one is billed from now on, so it is terminated."""
    heard = Heard()
    patience = Patience(begin=0.1, late_begin=5.0)
    async with (
        Emulator(faults=AT_ONCE.but(begin_delay_seconds=0.3)) as emulator,
        house(emulator.url, patience=patience) as service,
    ):
        session = await dial(service, heard)
        assert not await session.opened()
        await session.ended()
        await closed(service)
        assert session.state is State.TERMINATED
        assert heard.sessions == [session]
        assert emulator.sessions[0].ended == "client_terminate"
        nothing_leaked(emulator)


async def test_an_upgrade_that_comes_too_late() -> None:
    """The time for `Begin` counts from the dialling."""
    patience = Patience(begin=0.1)
    async with (
        Emulator(faults=AT_ONCE.but(upgrade_delay_seconds=0.5)) as emulator,
        house(emulator.url, patience=patience) as service,
    ):
        session = await dial(service, Heard())
        assert not await session.opened()
        assert session.loss == Loss("no_begin", None, "no answer")
        await closed(service)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 429, 500, 503])
async def test_a_refused_handshake(status: int) -> None:
    """Its status, and nothing of its text."""
    async with (
        Emulator(faults=AT_ONCE.but(refuse_handshakes=9, refuse_status=status)) as emulator,
        house(emulator.url) as service,
    ):
        session = await dial(service, Heard())
        assert not await session.opened()
        assert session.loss == Loss("http", status, "")
        await closed(service)
        assert emulator.sessions == []


async def test_nobody_there() -> None:
    """A refused connection, and a reset before any answer."""
    kinds = []
    faults = AT_ONCE.but(refuse_handshakes=9, refuse_status=0)
    async with Emulator(faults=faults) as emulator, house(emulator.url) as service:
        for _ in range(2):
            session = await dial(service, Heard())
            assert not await session.opened()
            assert session.loss is not None
            kinds.append(session.loss.kind)
            await emulator.refuse_connections()
        await closed(service)
    assert kinds == ["unreachable", "unreachable"]


@pytest.mark.parametrize(
    ("answer", "loss"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "unreachable"),
        (b"", "unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "http 200"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n", "http 101"),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n", "http 302"),
    ],
)  # fmt: skip
async def test_something_else_answers(answer: bytes, loss: str) -> None:
    """What is no upgrade is a loss, and a redirect is not followed: audio goes where the operator said."""
    async with raw_peer(answer) as url, house(url) as service:
        session = await dial(service, Heard())
        assert not await session.opened()
        assert str(session.loss).startswith(loss)
        await closed(service)


@pytest.mark.parametrize(
    ("code", "text"), [(1008, "Unauthorized Connection: Invalid API key"), (3006, "no such model")]
)
async def test_refused_after_the_upgrade(code: int, text: str) -> None:
    """The service upgrades first and refuses then: the Error says why, the close frame does not."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE.but(failure=Failure(code, text))) as emulator, house(emulator.url) as service:
        session = await dial(service, heard)
        assert not await session.opened()
        assert session.loss == Loss("error", code, text)
        await closed(service)
        assert (heard.sessions, heard.ended) == ([], [session])


# Sessions that are lost


@pytest.mark.parametrize(
    ("how", "code", "seen"),
    [
        ("rst", 1000, 1006), ("fin", 1000, 1006), ("close", 1000, 1000), ("close", 1001, 1001), ("close", 1011, 1011),
        ("close", 1012, 1012),
    ],
)  # fmt: skip
@pytest.mark.parametrize("second", [0.0, 1.0])
async def test_a_dropped_line_is_noticed_at_once(how: How, code: int, seen: int, second: float) -> None:
    """A reset, an end without a close frame, a close with any code and no Termination: each by its code, right away."""
    heard = Heard()
    async with (
        Emulator(faults=AT_ONCE.but(cut=Cut(second, how, code))) as emulator,
        house(emulator.url) as service,
        asyncio.timeout(5),
    ):
        session = await opened(service, heard)
        await speak(session, 2.0)
        await session.ended()
        assert session.state is State.LOST
        assert session.loss is not None
        assert (session.loss.kind, session.loss.code, session.loss.begun) == ("closed", seen, True)
        await closed(service)
        assert service.ledger.zombies() == 0
        nothing_leaked(emulator)


@pytest.mark.parametrize("code", [3005, 3006, 3007, 3008, 3009, 1008, 1011])
async def test_an_error_in_the_middle(code: int) -> None:
    """It ends the session with its text; the close frame that follows adds nothing."""
    heard = Heard()
    faults = AT_ONCE.but(failure=Failure(code, "it broke", 1.0))
    async with Emulator(faults=faults) as emulator, house(emulator.url) as service, asyncio.timeout(5):
        session = await opened(service, heard)
        await speak(session, 2.0)
        await session.ended()
        assert session.loss == Loss("error", code, "it broke", begun=True)
        await closed(service)
        nothing_leaked(emulator)


async def test_sending_on_a_dead_line() -> None:
    """What did not go is not counted as sent, and whoever sends is let go when the session is over."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE.but(cut=Cut(1.0, "rst"))) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        for chunk in chunks(20.0):
            if session.over:
                break
            await session.send(chunk, CHUNK_MS)
            await session.pause(0.002)
        assert session.over
        assert session.loss is not None
        assert session.loss.code == 1006
        assert session.sent_ms < 20_000
        with pytest.raises(StateFault, match="audio while LOST"):
            await session.send(b"", 0)


async def test_a_line_that_was_cut_under_a_sender() -> None:
    """Our own side of the line is gone before the reading side has said a word."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        assert session._ws is not None
        session._ws._writer._closing = True
        await session.send(bytes(3200), 100)
        assert session.over
        assert (session.loss, session.sent_ms) == (Loss("closed", 1006, "", begun=True), 0)
        await closed(service)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)


async def test_a_half_open_line() -> None:
    """Neither messages nor an answer to a ping: lost as stalled, since what was sent last may never have arrived."""
    heard = Heard()
    patience = Patience(ping=0.2, close=0.1, tidy=0.1)
    async with (
        Emulator(faults=AT_ONCE.but(black_hole_second=1.0)) as emulator,
        house(emulator.url, patience=patience) as service,
        asyncio.timeout(5),
    ):
        session = await opened(service, heard)
        await speak(session, 2.0)
        await session.ended()
        assert session.loss == Loss("stalled", None, "no answer to a ping", begun=True)
        await closed(service)


async def test_a_line_that_dies_while_it_ends() -> None:
    """`Terminate` may never have arrived: the session may be open, and billed. That is a zombie, not a mere loss."""
    heard = Heard()
    patience = Patience(ping=0.2, close=0.1, tidy=0.1)
    async with (
        Emulator(faults=AT_ONCE.but(black_hole_second=1.0)) as emulator,
        house(emulator.url, patience=patience, terminate_seconds=20) as service,
        asyncio.timeout(5),
    ):
        session = await opened(service, heard)
        await speak(session, 1.0)
        session.terminate()
        await session.ended()
        assert session.unconfirmed
        assert session.loss is not None
        assert session.loss.kind == "unconfirmed"
        await closed(service)
        assert service.ledger.zombies() == 1


async def test_a_pinged_service_that_answers() -> None:
    """Silence alone is no loss."""
    patience = Patience(ping=0.4)
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url, patience=patience) as service:
        session = await opened(service, Heard())
        await session.pause(1.0)
        assert session.state is State.OPEN


async def test_heartbeats_prove_what_arrived() -> None:
    """What the service counts is what is proven; and the ears are told of each."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE.but(heartbeat_seconds=0.05)) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        assert session.live.proven_ms == 0
        await speak(session, 1.0)
        await emulator.wait(lambda: emulator.sessions[0].audio_ms == 1000)
        beats = heard.kinds.count("Heartbeat")
        await heard.until(lambda: heard.kinds.count("Heartbeat") > beats + 1)
        assert session.live.proven_ms == 1000


async def test_a_sweep_finds_a_line_that_stalled() -> None:
    """What the sweep takes for dead is cut at once, and nobody is left waiting in it."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE.but(stall_second=0.1)) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        sender = await stuck(session)
        service.sweep()
        assert not session.over
        session.live = Liveness(asyncio.get_running_loop().time() - 60, heartbeats=True)
        service.sweep()
        assert session.loss == Loss("stalled", None, "no heartbeat", begun=True)
        async with asyncio.timeout(1):
            await asyncio.wait({sender})
        await closed(service)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)


async def stuck(session: Session) -> asyncio.Task[None]:
    """Send until the socket takes no more; the task that waits in `send`."""

    async def pour() -> None:
        while not session.over:
            await session.send(bytes(32000), 1000)

    sender = asyncio.get_running_loop().create_task(pour())
    sent = -1.0
    while session.sent_ms > sent or session.live._sending_since is None:
        sent = session.sent_ms
        await asyncio.wait({sender}, timeout=0.1)
    return sender


async def test_terminating_a_stuck_socket() -> None:
    """`Terminate` cannot be said: the session's end waits for its deadline, no longer, and it is a zombie."""
    heard = Heard()
    async with (
        Emulator(faults=AT_ONCE.but(stall_second=0.1)) as emulator,
        house(emulator.url, terminate_seconds=0.2) as service,
        asyncio.timeout(10),
    ):
        session = await opened(service, heard)
        sender = await stuck(session)
        session.backlog = Backlog(asyncio.get_running_loop().time())  # else the deadline would wait for minutes of it
        session.terminate()
        await session.ended()
        assert session.unconfirmed
        await closed(service)
        await asyncio.wait({sender})
        assert service.ledger.zombies() == 1
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)


async def test_a_terminate_that_is_never_confirmed() -> None:
    """Contract §2: `GATEWAY_TERMINATE_SECONDS` beyond what a service hearing in real time cannot have heard; then it is cut."""
    heard = Heard()
    faults = AT_ONCE.but(never_acknowledge_terminate=True)
    async with Emulator(faults=faults) as emulator, house(emulator.url, terminate_seconds=0.2) as service:
        clock = asyncio.get_running_loop().time
        session = await opened(service, heard)
        await speak(session, 0.4)
        unheard = session.backlog.ms(clock()) / 1000
        asked = clock()
        session.terminate()
        assert session.terminate_by is not None
        assert session.terminate_by == pytest.approx(asked + 0.2 + unheard, abs=0.05)
        assert unheard > 0.2
        await session.ended()
        assert clock() >= session.terminate_by
        assert session.unconfirmed
        assert session.loss == Loss("unconfirmed", None, "Terminate was not confirmed", begun=True)
        await closed(service)
        assert (service.ledger.zombies(), list(service.ledger)) == (1, [])
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        nothing_leaked(emulator)


async def test_a_termination_that_takes_its_time() -> None:
    """Within the time it has, it is waited for, and the words before it are heard."""
    heard = Heard()
    async with (
        Emulator(faults=AT_ONCE.but(termination_delay_seconds=0.3)) as emulator,
        house(emulator.url) as service,
    ):
        session = await opened(service, heard)
        await speak(session, 1.0)
        session.terminate()
        await session.ended()
        assert session.state is State.TERMINATED
        assert heard.words == [spelled(spoken.word) for spoken in script(1.0)]
        await closed(service)
        nothing_leaked(emulator)


@pytest.mark.parametrize("how", ["rst", "fin", "close"])
async def test_dropped_after_terminate(how: How) -> None:
    """The service itself ends the connection without a Termination: lost, and no zombie of ours."""
    heard = Heard()
    faults = AT_ONCE.but(drop_after_terminate=how)
    async with Emulator(faults=faults) as emulator, house(emulator.url) as service, asyncio.timeout(5):
        session = await opened(service, heard)
        session.terminate()
        await session.ended()
        assert session.state is State.LOST
        assert not session.unconfirmed
        await closed(service)
        assert service.ledger.zombies() == 0
        nothing_leaked(emulator)


# Sessions of ours that are given up


async def test_nobody_owns_it() -> None:
    """A bug of ours: the sweep ends it, by `Terminate` where the line still carries it, and calls it a zombie."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service, asyncio.timeout(5):
        session = await opened(service, heard)
        service.sweep()
        assert state(session) is State.OPEN
        heard.owned = False
        assert service.ledger.zombies() == 1
        service.sweep()
        assert session.unowned
        assert session.over
        assert heard.ended == [session]
        await closed(service)
        assert service.ledger.zombies() == 1
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        nothing_leaked(emulator)


async def test_nobody_owns_it_yet() -> None:
    """One that connects for nobody is terminated as it begins, and never was a zombie."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE.but(begin_delay_seconds=0.1)) as emulator, house(emulator.url) as service:
        session = await dial(service, heard)
        await emulator.wait(lambda: bool(emulator.sessions))
        heard.owned = False
        service.sweep()
        await session.ended()
        await closed(service)
        assert (session.state, session.unowned, service.ledger.zombies()) == (State.TERMINATED, False, 0)


async def test_nobody_owns_it_and_it_answers_nothing() -> None:
    """A line that is dead as well is cut after a moment."""
    heard = Heard()
    async with (
        Emulator(faults=AT_ONCE.but(black_hole_second=0.0)) as emulator,
        house(emulator.url) as service,
        asyncio.timeout(5),
    ):
        session = await opened(service, heard)
        heard.owned = False
        service.sweep()
        assert session.unowned
        await closed(service)


async def test_given_up_by_who_hears_it() -> None:
    """A hearer that wants no more of a session, from within a message: it is terminated there, and its words passed over."""

    class Picky(Heard):
        def heard(self, session: Session, message: protocol.Message) -> None:
            super().heard(session, message)
            if isinstance(message, protocol.Turn):
                session.lose(Loss("silent_turn", None, "enough", begun=True))

    heard = Picky()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service, asyncio.timeout(5):
        session = await opened(service, heard)
        await speak(session, 3.0)
        await session.ended()
        assert session.loss == Loss("silent_turn", None, "enough", begun=True)
        assert heard.kinds.count("Turn") == 1
        await closed(service)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)
        assert emulator.sessions[0].ended == "client_terminate"
        nothing_leaked(emulator)


async def test_a_session_long_dead() -> None:
    """Whatever is done to a session that is over is done to nothing."""
    heard = Heard()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        session.terminate()
        await closed(service)
        for again in (session.terminate, session.unconfirm, session.abort):
            again()
        session.lose(Loss("closed", 1006))
        assert (session.state, session.loss, session.unconfirmed) == (State.TERMINATED, None, False)
        assert heard.ended == [session]


# Hearers that fail


async def test_a_hearer_that_fails_at_the_begin() -> None:
    """Nobody would hear it: it is terminated, and whoever waits for it may try another."""

    class Failing(Heard):
        def began(self, session: Session) -> None:
            raise ZeroDivisionError

    heard = Failing()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await dial(service, heard)
        assert not await session.opened()
        assert session.loss is not None
        await session.ended()
        await closed(service)
        assert (session.state, heard.ended) == (State.TERMINATED, [session])
        nothing_leaked(emulator)


async def test_a_hearer_that_fails_at_a_message() -> None:
    """One message is lost on it; the session's next ones are not."""

    class Failing(Heard):
        def heard(self, session: Session, message: protocol.Message) -> None:
            super().heard(session, message)
            if isinstance(message, protocol.Turn):
                raise ZeroDivisionError

    heard = Failing()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        session = await opened(service, heard)
        await speak(session, 3.0)
        session.terminate()
        await session.ended()
        await closed(service)
        assert heard.words == [spelled(spoken.word) for spoken in script(3.0)]
        assert session.state is State.TERMINATED
        nothing_leaked(emulator)


async def test_a_hearer_that_fails_at_the_end() -> None:
    """The line is closed all the same, and the ledger is empty."""

    class Failing(Heard):
        def over(self, session: Session) -> None:
            super().over(session)
            raise ZeroDivisionError

    heard = Failing()
    async with Emulator(faults=AT_ONCE) as emulator, house(emulator.url) as service:
        first = await opened(service, heard)
        second = await opened(service, heard)
        first.terminate()
        second.lose(Loss("stalled", None, "so it seems", begun=True))
        await closed(service)
        assert (first.state, second.state) == (State.TERMINATED, State.LOST)
        await emulator.wait(lambda: emulator.ledger.totals.open == 0)


# What comes over the line


async def test_odd_messages() -> None:
    """Before Begin, binary, broken, unknown, no UTF-8, a second Begin: each is told as what it is, and the session lives."""
    heard = Heard()

    async def act(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str('{"type":"Turn","turn_order":0,"end_of_turn":true,"transcript":"too early"}')
        await socket.send_str(TERMINATION)
        await socket.send_str(BEGIN)
        await socket.send_bytes(b"\x00\xff")
        await socket.send_str("{")
        await socket.send_str('{"type":"Sparkle"}')
        await socket.send_frame(b'{"type":"Turn","turn_order":0,"transcript":"\xff"}', 1)  # type: ignore[arg-type]
        await socket.send_str(BEGIN)
        await peer.until_terminate(socket)
        await socket.send_str(TERMINATION)
        await socket.close()

    async with Peer(act) as peer, house(peer.url) as service:
        session = await opened(service, heard)
        await heard.until(lambda: "Begin" in heard.kinds)
        session.terminate()
        await session.ended()
        await closed(service)
    assert heard.messages == [
        protocol.Malformed("before Begin"),
        protocol.Malformed("before Begin"),
        protocol.Malformed("binary"),
        protocol.Malformed("not JSON"),
        protocol.Unknown("Sparkle"),
        protocol.Turn(0, transcript="\ufffd"),
        protocol.Begin("s-1", 4_000_000_000),
        protocol.Termination(1, 2),
    ]
    assert session.state is State.TERMINATED
    assert peer.texts == ['{"type":"Terminate"}']


async def test_a_termination_that_nobody_asked_for() -> None:
    """It ends the session, and it is told and billed; but no line of ours was closed in vain."""

    async def act(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str(BEGIN)
        await socket.send_str(TERMINATION)
        await socket.close()

    async with Peer(act) as peer, house(peer.url) as service:
        session = await opened(service, Heard())
        await session.ended()
        await closed(service)
    assert (session.state, session.terminate_by, session.loss) == (State.TERMINATED, None, None)
    assert session.termination == protocol.Termination(1, 2)


async def test_a_peer_that_does_not_close() -> None:
    """After Termination the line is ours to cut, if the service leaves it open."""

    async def act(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str(BEGIN)
        await peer.until_terminate(socket)
        await socket.send_str(TERMINATION)
        await over.wait()

    over = asyncio.Event()
    async with Peer(act) as peer, house(peer.url) as service, asyncio.timeout(5):
        session = await opened(service, Heard())
        session.terminate()
        await session.ended()
        await closed(service)
        over.set()
    assert session.state is State.TERMINATED


async def test_a_long_revision() -> None:
    """Every word of three hours in one message is taken."""
    words = ",".join(
        f'{{"start":{n * 330},"end":{n * 330 + 300},"text":"w{n}","confidence":0.9,"speaker":"A","word_is_final":true}}'
        for n in range(33_000)
    )
    revision = f'{{"type":"SpeakerRevision","revisions":[{{"turn_order":0,"speaker_label":"A","words":[{words}]}}]}}'
    heard = Heard()

    async def act(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str(BEGIN)
        await peer.until_terminate(socket)
        await socket.send_str(revision)
        await socket.send_str(TERMINATION)
        await socket.close()

    async with Peer(act) as peer, house(peer.url) as service:
        session = await opened(service, heard)
        session.terminate()
        await session.ended()
        await closed(service)
    assert len(revision) > 1 << 20
    assert session.state is State.TERMINATED
    message = heard.messages[0]
    assert isinstance(message, protocol.SpeakerRevision)
    assert len(message.revisions[0].words) == 33_000


@pytest.mark.parametrize("what", ["too long", "reserved bit", "no code"])
async def test_what_is_no_websocket(what: str) -> None:
    """A message beyond the limit, a frame with a reserved bit, a close without a code: lost, and nothing breaks."""

    async def act(request: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str(BEGIN)
        if what == "too long":
            await socket.send_str("x" * (MESSAGE_LIMIT + 1))
        else:
            assert request.transport is not None
            request.transport.write(b"\xf1\x01x" if what == "reserved bit" else b"\x88\x00")
        await socket.receive()

    async with Peer(act) as peer, house(peer.url) as service, asyncio.timeout(10):
        session = await opened(service, Heard())
        await session.ended()
        assert session.loss is not None
        assert (session.loss.kind, session.loss.code) == ("closed", 1006)
        await closed(service)


async def test_the_key_is_in_no_loss() -> None:
    """A service that repeats what it was sent does not put our key into our log."""

    async def error(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str(f'{{"type":"Error","error_code":1008,"error":"Invalid API key {KEY}"}}')

    async def close(_: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=f"no {KEY}".encode())

    losses = []
    for act in (error, close):
        async with Peer(act) as peer, house(peer.url) as service:
            session = await dial(service, Heard())
            assert not await session.opened()
            await closed(service)
            losses.append(str(session.loss))
    assert losses == ["error 1008 Invalid API key ***", "closed 1008 no ***"]


async def test_how_long_it_lives() -> None:
    """By the service's own word, where that is believable; three hours otherwise."""
    session = Session(key="k", number=1, speech={}, terminate_seconds=1, hearer=Heard())
    session._begun_wall = 1000.0
    lives = []
    for expires_at in (None, 1600.0, 999.0, 1001.0, 99_999.0, float("nan")):
        session.expires_at = expires_at
        lives.append(session.lifetime_seconds)
    assert lives == [10_800, 600, 10_800, 10_800, 10_800, 10_800]
    session._begun_wall = None
    assert session.lifetime_seconds == 10_800


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stall_second", "black_hole_second"])
@pytest.mark.parametrize("terminated", [False, True])
async def test_a_dead_line_in_real_time(fault: str, *, terminated: bool) -> None:
    """As it is configured out of the box, speaking in real time: a deaf service and a half-open line within 12 s."""
    heard = Heard()
    faults = Faults(**{fault: 2.0})  # type: ignore[arg-type]
    async with (
        Emulator(faults=faults) as emulator,
        house(emulator.url, patience=Patience(), terminate_seconds=12) as service,
    ):
        clock = asyncio.get_running_loop().time
        session = await opened(service, heard)
        deaf_at = 0.0
        for number, chunk in enumerate(chunks(20.0)):
            if number == 20:
                deaf_at = clock()
                if terminated:
                    session.terminate()
                    await session.ended()
            if session.over:
                break
            await session.send(chunk, CHUNK_MS)
            await session.pause(session.begun_at + (number + 1) * CHUNK_MS / 1000 - clock())  # type: ignore[operator]
            service.sweep()
        assert session.over
        assert session.closed_at is not None
        assert session.closed_at - deaf_at <= (12.5 if terminated else 12)
        assert session.unconfirmed == terminated
        assert session.loss is not None
        assert session.loss.kind == ("unconfirmed" if terminated else "stalled")
        await closed(service)
