"""Deliveries whole: a store on disk, a receiver over HTTP that fails to order, and time that is set."""

import asyncio
import contextlib
import json
import random
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery import Attempt, Batch, Event, Outcome, Selection
from gateway.outbox.sqlite import SqliteOutbox
from gateway.webhooks.breaker import THRESHOLD
from gateway.webhooks.retry import GIVE_UP_SECONDS
from gateway.webhooks.sender import Sender
from gateway.webhooks.worker import Deliveries
from tests.fakes.endpoint import Answer, Endpoint, Received
from tests.webhooks import child

LOOPBACK = (ip_network("127.0.0.0/8"),)
OK = Answer()


class Facts:
    """An observer."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.perishables: list[Outcome] = []
        self._more = asyncio.Event()

    def attempted(self, attempt: Attempt) -> None:
        """Remember."""
        self.attempts.append(attempt)
        self._more.set()

    async def until(self, count: int) -> None:
        """Wait for so many attempts to have ended."""
        async with asyncio.timeout(10):
            while len(self.attempts) < count:
                self._more.clear()
                await self._more.wait()

    def perished(self, outcome: Outcome) -> None:
        """Remember."""
        self.perishables.append(outcome)


class World:
    """A gateway's delivering half."""

    def __init__(self, path: Path, endpoint: Endpoint) -> None:
        self.path = path
        self.endpoint = endpoint
        self.now = 1_000_000.0
        self.facts = Facts()
        self._sequence: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def running(self, *, in_flight: int = 50, attempt_seconds: float = 15.0) -> AsyncIterator["World"]:
        """Run it."""
        async with (
            SqliteOutbox(self.path, clock=self.time) as self.outbox,
            Sender(self.endpoint.keys, allowed=LOOPBACK, attempt_seconds=attempt_seconds) as self.sender,
            Deliveries(
                self.outbox,
                self.sender,
                observe=self.facts,
                clock=self.time,
                chance=lambda: 0.5,
                in_flight=in_flight,
                in_flight_a_host=in_flight,
            ) as self.deliveries,
        ):
            yield self

    def time(self) -> float:
        """The one clock."""
        return self.now

    def event(
        self, call_id: str, *, ends_call: bool = False, url: str | None = None, kind: str = "turn.final"
    ) -> Event:
        """Make the call's next event."""
        sequence = self._sequence[call_id] = self._sequence.get(call_id, 0) + 1
        return Event(
            f"msg_{call_id}_{sequence}",
            call_id,
            url or self.endpoint.url,
            kind,
            sequence,
            self.now,
            body(call_id, sequence, kind),
            ends_call,
        )

    def put(self, *calls: str) -> asyncio.Future[None]:
        """Put the next event of each call."""
        return self.outbox.put(Batch(events=tuple(self.event(call_id) for call_id in calls)))

    async def later(self, seconds: float) -> None:
        """Let time pass, and all that is due then happen."""
        self.now += seconds
        self.deliveries.look()
        await self.deliveries.rest()

    def order(self, answer: Callable[[Received], Answer] | Answer) -> None:
        """Tell the receiver what to answer."""
        self.endpoint.order = (lambda _received: answer) if isinstance(answer, Answer) else answer

    @property
    def calls(self) -> list[str]:
        """Whose events arrived, in order."""
        return [received.call_id for received in self.endpoint.received]


def body(call_id: str, sequence: int, kind: str = "turn.final") -> bytes:
    """Make a body."""
    return json.dumps(
        {"type": kind, "timestamp": "t", "data": {"call": {"id": call_id}, "sequence": sequence}}
    ).encode()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose receiver runs."""
    async with Endpoint(secrets=2) as endpoint:
        yield World(tmp_path / "gateway.db", endpoint)


async def test_calls_run_in_parallel_and_each_in_order(world: World) -> None:
    """Every event arrives once, in its call's order, one request in flight a call; nothing is left."""
    async with world.running():
        for _ in range(10):
            world.put("A", "B", "C")
        await world.put("A")
        await world.deliveries.rest()

        assert [world.endpoint.accepted[call_id] for call_id in "ABC"] == [
            [*range(1, 12)],
            [*range(1, 11)],
            [*range(1, 11)],
        ]
        assert len(world.endpoint.received) == 31
        assert world.outbox.depth() == 0


async def test_a_stored_head_is_attempted_without_being_read_again(world: World) -> None:
    """The first event of a lane goes out as it is committed: its attempt knows its delay; its settling, its age."""
    async with world.running():
        await world.put("A")
        await world.deliveries.rest()

    (attempt,) = world.facts.attempts
    assert (attempt.first_delay_seconds, attempt.delivered_seconds, attempt.label) == (0.0, 0.0, "delivered")


async def test_a_failed_event_is_repeated_the_same_and_holds_its_call_back(world: World) -> None:
    """While an event fails its call waits; it is sent again with the same id and body, then the call goes on."""
    async with world.running():
        world.order(Answer(500))
        await world.put("A", "A")
        await world.deliveries.rest()
        await world.later(0.5)
        assert [received.id for received in world.endpoint.received] == ["msg_A_1"]
        world.order(OK)
        await world.later(0.5)

        assert [received.id for received in world.endpoint.received] == ["msg_A_1", "msg_A_1", "msg_A_2"]
        assert world.endpoint.received[0].body == world.endpoint.received[1].body
        assert [attempt.label for attempt in world.facts.attempts] == ["retried", "delivered", "delivered"]


async def test_the_attempt_in_hand_when_a_process_dies_is_repeated_by_the_next(world: World) -> None:
    """What was sent and not settled is sent again after a restart, first of its call, same id, same body."""
    never = asyncio.Event()
    world.order(Answer(hold=never))
    async with world.running():
        await world.put("A", "A")
        await world.endpoint.until(lambda: len(world.endpoint.received) == 1)
    world.order(OK)
    never.set()
    async with world.running():
        await world.deliveries.rest()

    assert [received.id for received in world.endpoint.received] == ["msg_A_1", "msg_A_1", "msg_A_2"]
    assert world.endpoint.received[0].body == world.endpoint.received[1].body


async def test_kill_9_in_mid_delivery_repeats_the_head_and_keeps_the_order(tmp_path: Path) -> None:
    """A process killed with requests in flight is followed by one that sends those again, same ids, same bytes, then the rest in order."""
    never = asyncio.Event()
    async with Endpoint() as endpoint:
        endpoint.order = lambda received: Answer(hold=never) if received.sequence == 5 else OK
        path = tmp_path / "gateway.db"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.webhooks.child",
            str(path),
            endpoint.url,
            endpoint.keys[0].hex(),
            cwd=Path(__file__).parents[2],
        )
        await endpoint.until(lambda: len(endpoint.received) == 15, 30)
        process.kill()
        await process.wait()
        endpoint.order = lambda _received: OK
        never.set()
        async with (
            SqliteOutbox(path) as outbox,
            Sender(endpoint.keys, allowed=LOOPBACK) as sender,
            Deliveries(outbox, sender) as deliveries,
        ):
            await deliveries.rest()
            assert outbox.depth() == 0
        for call_id in "ABC":
            received = endpoint.of(call_id)
            assert {one.id: one.body for one in received} == {
                f"msg_{call_id}_{n}": child.body(call_id, n) for n in range(1, 11)
            }
            sequences = [one.sequence for one in received]
            first = [sequence for n, sequence in enumerate(sequences) if sequence not in sequences[:n]]
            assert first == [*range(1, 11)]
            assert sequences.count(5) == 2


async def test_a_redirect_is_a_failure(world: World) -> None:
    """A 3xx is never followed: the event is tried again where it is owed."""
    async with world.running():
        world.order(Answer(307, headers=(("location", f"{world.endpoint.url}/elsewhere"),)))
        await world.put("A")
        await world.deliveries.rest()

        assert len(world.endpoint.received) == 1
        assert world.outbox.depth() == 1


async def test_a_receiver_that_asks_for_time_gets_it(world: World) -> None:
    """`Retry-After` holds the call's next attempt back, and no other call."""
    async with world.running():
        world.order(lambda received: Answer(503, headers=(("retry-after", "120"),)) if received.call_id == "A" else OK)
        await world.put("A")
        await world.deliveries.rest()
        await world.later(119)
        await world.put("B")
        await world.deliveries.rest()
        assert world.calls == ["A", "B"]
        await world.later(1)
        assert world.calls == ["A", "B", "A"]


async def test_a_gone_endpoint_is_disabled_until_it_is_enabled(world: World) -> None:
    """410 stops everything to the endpoint, over a restart and whatever time passes; enabled again, nothing is missing."""
    async with world.running():
        world.order(Answer(410))
        await world.put("A", "A")
        await world.deliveries.rest()
        await world.put("B")
        assert world.deliveries.disabled() == 1
    world.order(OK)
    async with world.running():
        await world.later(GIVE_UP_SECONDS * 2)
        assert (world.deliveries.disabled(), world.calls) == (1, ["A"])
        assert world.facts.attempts[0].label == "gone"
        assert await world.deliveries.enable(world.endpoint.url)
        assert not await world.deliveries.enable("https://unknown.example/")
        await world.deliveries.rest()

        assert [world.endpoint.accepted[call_id] for call_id in "AB"] == [[1, 2], [1]]
        assert (world.outbox.depth(), world.outbox.dead_letters(), world.deliveries.disabled()) == (0, 0, 0)


async def test_one_call_probes_an_endpoint_that_fails_for_everyone(world: World) -> None:
    """After a few failures of several calls one call at a time is sent, over a restart too; when it succeeds all others go at once."""
    calls = [f"C{n}" for n in range(20)]
    world.order(Answer(500))
    async with world.running():
        await world.put(*calls[:THRESHOLD])
        await world.endpoint.until(lambda: len(world.endpoint.received) == THRESHOLD)
        await world.deliveries.rest()
        await world.put(*calls[THRESHOLD:])
        before = len(world.endpoint.received)
        for n in range(4):
            await world.later(5)
            assert len(world.endpoint.received) == before + n + 1
        assert world.calls[before:] == ["C0", "C0", "C1", "C1"]
    async with world.running():
        await world.later(0)
        assert len(world.endpoint.received) == before + 4
        world.order(OK)
        await world.later(5)

        assert {call_id: world.endpoint.accepted[call_id] for call_id in calls} == {call_id: [1] for call_id in calls}
        assert (await world.outbox.endpoints())[0].failing_since is None


async def test_one_calls_refused_event_delays_no_other_call(world: World) -> None:
    """An event that is refused for its own sake is tried on by itself; every other call is served at once."""
    async with world.running():
        world.order(lambda received: Answer(422) if received.call_id == "A" else OK)
        await world.put("A")
        for n in range(20):
            await world.put(f"B{n}")
            await world.later(10)
            assert world.endpoint.accepted[f"B{n}"] == [1]
        assert world.calls.count("A") > 10


async def test_calls_refused_for_their_own_sake_delay_a_third_but_for_one_probe(world: World) -> None:
    """Several refused calls alone look like a failing endpoint; one that is served clears it, and they open it no more."""
    async with world.running():
        world.order(lambda received: Answer(422) if received.call_id in "AB" else OK)
        await world.put("A", "B")
        for _ in range(5):
            await world.later(5)
        await world.put("C")
        await world.later(5)
        await world.later(5)
        assert world.endpoint.accepted["C"] == [1]
        for _ in range(20):
            await world.later(10)
            await world.put("C")
            await world.deliveries.rest()
        assert world.endpoint.accepted["C"] == [*range(1, 22)]


async def test_three_days_make_a_dead_letter_and_a_replay_an_event(world: World) -> None:
    """An event that fails for three days is kept aside, its call goes on; replayed it is sent with its id and body."""
    async with world.running():
        world.order(Answer(500))
        await world.put("A")
        await world.deliveries.rest()
        await world.later(GIVE_UP_SECONDS - 1)
        assert world.outbox.dead_letters() == 0
        await world.put("A")
        await world.later(2)
        assert (world.outbox.dead_letters(), world.outbox.depth()) == (1, 1)
        assert [attempt.label for attempt in world.facts.attempts][2] == "dead_lettered"
        world.order(OK)
        await world.later(1)
        assert world.endpoint.accepted["A"] == [2]
        replayed = await world.deliveries.replay(Selection(id="msg_A_1"))
        await world.deliveries.rest()

        assert (replayed.revived, world.outbox.dead_letters(), world.endpoint.accepted["A"]) == (1, 0, [2, 1])
        assert len({received.body for received in world.endpoint.of("A") if received.id == "msg_A_1"}) == 1


async def test_an_event_that_waited_for_three_days_behind_another_still_gets_its_attempt(world: World) -> None:
    """No event is given up unsent: what stood behind a failing one is tried once, however old."""
    async with world.running():
        world.order(Answer(500))
        await world.put("A", "A", "A")
        await world.deliveries.rest()
        await world.later(GIVE_UP_SECONDS)

        assert [received.id for received in world.endpoint.received] == ["msg_A_1", "msg_A_1", "msg_A_2", "msg_A_3"]
        assert world.outbox.dead_letters() == 3


async def test_a_store_that_fails_holds_no_stored_event_back(world: World) -> None:
    """While another process holds the file, what is stored is delivered in order and retried; the rest follows, in order, when it heals."""
    async with world.running():
        never = asyncio.Event()
        world.order(Answer(hold=never))
        await world.put("A", "A", "A")
        await world.endpoint.until(lambda: len(world.endpoint.received) == 1)
        with contextlib.closing(sqlite3.connect(world.path, isolation_level=None)) as thief:
            thief.execute("BEGIN IMMEDIATE")
            late = world.put("A", "B")
            await world.outbox.until(healthy=False)
            world.order(lambda received: Answer(500) if received.sequence == 2 else OK)
            never.set()
            await world.endpoint.until(lambda: len(world.endpoint.received) == 2)
            world.order(OK)
            await world.facts.until(2)
            world.now += 10
            world.deliveries.look()
            await world.facts.until(4)
            assert world.endpoint.accepted["A"] == [1, 2, 3]
            assert not late.done()
            thief.execute("ROLLBACK")
        await late
        await world.deliveries.rest()

        assert (world.endpoint.accepted["A"], world.endpoint.accepted["B"], world.outbox.depth()) == (
            [1, 2, 3, 4],
            [1],
            0,
        )


async def test_more_calls_than_may_be_in_flight_all_get_through(world: World) -> None:
    """With room for two requests, forty calls of three events are served, each in order."""
    calls = [f"C{n}" for n in range(40)]
    async with world.running(in_flight=2):
        for _ in range(3):
            await world.put(*calls)
        await world.deliveries.rest()

        assert all(world.endpoint.accepted[call_id] == [1, 2, 3] for call_id in calls)


async def test_an_endpoint_that_fails_does_not_hold_another_back(world: World) -> None:
    """Each endpoint fails for itself, also within one call."""
    async with Endpoint() as other, world.running():
        other.secrets = world.endpoint.secrets
        world.order(Answer(500))
        await world.outbox.put(
            Batch(events=(world.event("A"), world.event("A", url=other.url), world.event("B", url=other.url)))
        )
        await world.deliveries.rest()

        assert (other.accepted["A"], other.accepted["B"], world.endpoint.accepted["A"]) == ([2], [1], [])


async def test_draining_settles_what_is_due_and_leaves_what_waits(world: World) -> None:
    """A drain ends as soon as nothing is due; afterwards nothing new is started, and it is owed."""
    async with world.running():
        world.order(lambda received: Answer(500) if received.call_id == "A" else OK)
        await world.put("A", "B", "B")
        await world.deliveries.drain(10)
        assert (world.endpoint.accepted["B"], world.outbox.depth()) == ([1, 2], 1)
        await world.put("C")
        assert "C" not in world.calls
    async with world.running():
        await world.deliveries.rest()
        assert world.endpoint.accepted["C"] == [1]


async def test_a_drain_ends_in_its_time(world: World) -> None:
    """A receiver that does not answer holds nobody up for longer than was said."""
    never = asyncio.Event()
    world.order(Answer(hold=never))
    async with world.running():
        await world.put("A")
        await world.deliveries.drain(0.05)
    never.set()

    assert world.calls == ["A"]


# Perishables


def partial(call_id: str, number: int) -> bytes:
    """Make a partial's body; its number stands for its sequence."""
    return body(call_id, number, "turn.partial")


async def test_a_perishable_is_sent_once_and_never_stored(world: World) -> None:
    """A partial goes out beside the order, is refused without another try, and leaves no trace."""
    async with world.running():
        world.order(Answer(500))
        world.deliveries.perish("A", world.endpoint.url, "inbound", "inbound-0", partial("A", 1))
        await world.endpoint.until(lambda: len(world.endpoint.received) == 1)
        await world.later(60)

        assert [received.type for received in world.endpoint.received] == ["turn.partial"]
        assert [outcome.kind for outcome in world.facts.perishables] == ["failed"]
        assert world.outbox.depth() == 0


async def test_the_latest_perishable_of_each_leg_waits_for_the_call_to_be_quiet(world: World) -> None:
    """While an event of the call is in flight partials wait, each replaced by its leg's next."""
    answer = asyncio.Event()
    async with world.running():
        world.order(lambda received: Answer(hold=answer) if received.type == "turn.final" else OK)
        await world.put("A")
        await world.endpoint.until(lambda: len(world.endpoint.received) == 1)
        for number in (1, 2, 3):
            for leg, offset in (("inbound", 0), ("outbound", 10)):
                world.deliveries.perish("A", world.endpoint.url, leg, f"{leg}-0", partial("A", number + offset))
        world.deliveries.perish("B", world.endpoint.url, "inbound", "inbound-0", partial("B", 1))
        await world.endpoint.until(lambda: len(world.endpoint.of("B")) == 1)
        assert len(world.endpoint.of("A")) == 1
        answer.set()
        await world.endpoint.until(lambda: len(world.endpoint.of("A")) == 3)
        await world.deliveries.rest()

        assert [received.sequence for received in world.endpoint.of("A")] == [1, 3, 13]


async def test_no_partial_follows_its_final(world: World) -> None:
    """What waits of a leg is dropped before its final is put; a final waits for the partial that is in flight."""
    answer = asyncio.Event()
    async with world.running():
        world.order(lambda received: Answer(hold=answer) if received.type == "turn.partial" else OK)
        world.deliveries.perish("A", world.endpoint.url, "inbound", "inbound-0", partial("A", 1))
        await world.endpoint.until(lambda: len(world.endpoint.received) == 1)
        world.deliveries.perish("A", world.endpoint.url, "inbound", "inbound-0", partial("A", 2))
        world.deliveries.perish("A", world.endpoint.url, "outbound", "outbound-0", partial("A", 3))
        world.deliveries.drop_perishable("A", "outbound", "outbound-9")
        world.deliveries.drop_perishable("A", "inbound")
        await world.put("A")
        answer.set()
        await world.endpoint.until(lambda: len(world.endpoint.received) == 3)
        await world.deliveries.rest()

        assert [(received.type, received.sequence) for received in world.endpoint.received] == [
            ("turn.partial", 1),
            ("turn.final", 1),
            ("turn.partial", 3),
        ]


async def test_perishables_spare_an_endpoint_that_is_disabled(world: World) -> None:
    """Nothing perishable goes to an endpoint that said 410."""
    async with world.running():
        world.order(Answer(410))
        await world.put("A")
        await world.deliveries.rest()
        world.deliveries.perish("A", world.endpoint.url, "inbound", "inbound-0", partial("A", 1))
        await world.deliveries.rest()

        assert world.facts.perishables == []


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_a_receiver_that_fails_at_will_gets_everything_in_order(
    seed: int, sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever it answers, hangs up on or asks for, each call's events are accepted in their order, none missing."""
    asyncio.run(_fail_at_will(seed, sizes, tmp_path_factory.mktemp("worker") / "gateway.db"))


async def _fail_at_will(seed: int, sizes: list[int], path: Path) -> None:
    chance = random.Random(seed)
    answers = [
        OK,
        OK,
        Answer(500),
        Answer(404),
        Answer(302),
        Answer(cut=True),
        Answer(429),
        Answer(503, headers=(("retry-after", "3"),)),
    ]
    async with Endpoint() as endpoint:
        world = World(path, endpoint)
        world.order(lambda _received: chance.choice(answers))
        for _ in range(2):
            async with world.running(in_flight=3):
                for number, size in enumerate(sizes):
                    for _ in range(size):
                        world.put(f"C{number}")
                await world.deliveries.rest()
                for _ in range(3):
                    await world.later(20)
        world.order(OK)
        async with world.running():
            for _ in range(4):
                await world.later(60)
            assert world.outbox.depth() == 0
        assert {
            call_id: [*range(1, 2 * size + 1)]
            for call_id, size in zip((f"C{n}" for n in range(9)), sizes, strict=False)
        } == dict(endpoint.accepted)
