"""What every outbox promises, as tests to inherit: a subclass says how to open one, and all of this is run against it."""

import abc
import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from gateway.delivery import (
    Batch,
    CallRecord,
    Delivery,
    EndpointState,
    Event,
    Outcome,
    Selection,
    SessionRecord,
    TurnRecord,
)
from gateway.errors import StateFault

HOOK = "https://crm.example/hook"
OTHER = "https://other.example/hook"
FAILED = Outcome("failed", 500)


def event(
    call_id: str, sequence: int, *, endpoint: str = HOOK, ends_call: bool = False, kind: str = "turn.final"
) -> Event:
    """Make an event whose id and body say which it is."""
    name = f"{call_id}-{sequence}"
    return Event(f"msg_{name}", call_id, endpoint, kind, sequence, 1000.0 + sequence, f'"{name}"'.encode(), ends_call)


def batch(*events: Event) -> Batch:
    """Make a batch of events alone."""
    return Batch(events=events)


class Time:
    """A clock that is set."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class OutboxContract(abc.ABC):
    """The suite."""

    @abc.abstractmethod
    def open(self, path: Path, time: Time) -> AbstractAsyncContextManager[Any]:
        """Open an outbox whose contents live at `path`."""

    @pytest.fixture
    def time(self) -> Time:
        """The outbox's clock."""
        return Time()

    async def test_a_first_event_is_handed_over_as_it_is_stored(self, tmp_path: Path, time: Time) -> None:
        """The first event of a lane is heard of, whole, by the time its put is done; later ones of the lane are not."""
        async with self.open(tmp_path, time) as outbox:
            heads: list[Delivery] = []
            outbox.listen(heads.extend)
            await outbox.put(batch(event("A", 1), event("A", 2), event("B", 1)))

            assert [event("A", 1), event("B", 1)] == [head.event for head in heads]
            assert [time.now] * 2 == [head.stored_at for head in heads]

    async def test_settling_gives_the_next_of_the_lane(self, tmp_path: Path, time: Time) -> None:
        """Each settled event is followed by the next of its call, then by nothing; nothing is owed then."""
        async with self.open(tmp_path, time) as outbox:
            await outbox.put(batch(event("A", 1), event("A", 2)))
            first = (await outbox.claim(HOOK, time.now, 10, ())).deliveries[0]
            second = await outbox.settle(first)

            assert event("A", 2) == second.event
            assert await outbox.settle(second) is None
            assert outbox.depth() == 0
            assert await outbox.find(Selection(), 10, bodies=False) == []

    async def test_only_heads_are_claimed_and_busy_lanes_are_not(self, tmp_path: Path, time: Time) -> None:
        """A claim gives each lane's head once, of its endpoint only, longest due first, at most as many as asked for."""
        async with self.open(tmp_path, time) as outbox:
            for call_id in "ABC":
                time.now += 1
                await outbox.put(batch(event(call_id, 1), event(call_id, 2)))
            await outbox.put(batch(event("A", 9, endpoint=OTHER)))

            assert [d.event.call_id for d in (await outbox.claim(HOOK, time.now, 2, ())).deliveries] == ["A", "B"]
            claim = await outbox.claim(HOOK, time.now, 9, [(HOOK, "A")])
            assert [event("B", 1), event("C", 1)] == [d.event for d in claim.deliveries]
            assert claim.next_due == float("inf")

    async def test_a_deferred_lane_is_due_later(self, tmp_path: Path, time: Time) -> None:
        """A deferred head is claimed when it is due, with its count of attempts and its first failure, and nothing of its lane before."""
        async with self.open(tmp_path, time) as outbox:
            await outbox.put(batch(event("A", 1), event("A", 2)))
            head = (await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]
            assert await outbox.defer(head, FAILED, time.now + 5, asked=False, failed_at=time.now) is None

            early = await outbox.claim(HOOK, time.now + 4.9, 9, ())
            assert (early.deliveries, early.next_due) == ([], time.now + 5)
            again = (await outbox.claim(HOOK, time.now + 5, 9, ())).deliveries[0]
            assert (again.event, again.attempts, again.first_failure_at) == (event("A", 1), 1, time.now)

    async def test_a_probe_takes_turns_in_order_of_storing(self, tmp_path: Path, time: Time) -> None:
        """Probes go round the waiting heads, due or not, but leave those alone whose receiver asked for a pause."""
        async with self.open(tmp_path, time) as outbox:
            for call_id in "ABC":
                await outbox.put(batch(event(call_id, 1)))
                head = (await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]
                await outbox.defer(head, FAILED, time.now + 99, asked=call_id == "B", failed_at=time.now)
            a = await outbox.probe(HOOK, time.now, -1, ())
            c = await outbox.probe(HOOK, time.now, a.position, ())

            assert [
                a.event.call_id,
                c.event.call_id,
                (await outbox.probe(HOOK, time.now, c.position, ())).event.call_id,
            ] == ["A", "C", "A"]
            assert (await outbox.probe(HOOK, time.now, -1, [(HOOK, "A")])).event.call_id == "C"
            assert (await outbox.probe(HOOK, time.now, -1, (), untried=True)).event.call_id == "A"
            await outbox.put(batch(event("D", 1), event("E", 1)))
            assert (await outbox.probe(HOOK, time.now, -1, (), untried=True)).event.call_id == "E"
            assert (await outbox.probe(HOOK, time.now, -1, [(HOOK, "E")], untried=True)).event.call_id == "D"
            assert (await outbox.probe(HOOK, time.now + 99, a.position, ())).event.call_id == "B"

    async def test_release_lets_waiting_lanes_go_unless_they_were_asked_to_wait(
        self, tmp_path: Path, time: Time
    ) -> None:
        """When an endpoint heals its lanes are due at once, but for those whose receiver asked for the pause."""
        async with self.open(tmp_path, time) as outbox:
            for call_id in "AB":
                await outbox.put(batch(event(call_id, 1)))
                head = (await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]
                await outbox.defer(head, FAILED, time.now + 99, asked=call_id == "B", failed_at=time.now)
            await outbox.keep_endpoint(EndpointState(HOOK), release=True)

            claim = await outbox.claim(HOOK, time.now, 9, ())
            assert [d.event.call_id for d in claim.deliveries] == ["A"]
            assert claim.next_due == time.now + 99

    async def test_a_dead_letter_is_kept_and_the_lane_goes_on(self, tmp_path: Path, time: Time) -> None:
        """Burying keeps the event, with why it died, and gives the lane's next."""
        async with self.open(tmp_path, time) as outbox:
            await outbox.put(batch(event("A", 1), event("A", 2)))
            head = (await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]

            assert (await outbox.bury(head, FAILED)).event == event("A", 2)
            assert (outbox.depth(), outbox.dead_letters()) == (1, 1)
            (dead,) = await outbox.find(Selection(state="dead"), 9, bodies=True)
            assert (dead.id, dead.attempts, dead.outcome, dead.status, dead.body) == (
                "msg_A-1",
                1,
                "failed",
                500,
                b'"A-1"',
            )

    async def test_a_replayed_letter_takes_its_old_place(self, tmp_path: Path, time: Time) -> None:
        """A replay owes dead letters again, with their ids and bodies, before what came after them in their call."""
        async with self.open(tmp_path, time) as outbox:
            await outbox.put(batch(event("A", 1), event("A", 2), event("A", 3)))
            head = (await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]
            second = await outbox.bury(head, FAILED)
            third = await outbox.bury(second, FAILED)
            await outbox.defer(third, FAILED, time.now + 99, asked=False, failed_at=time.now)
            time.now += 10
            replayed = await outbox.replay(Selection(call_id="A", state="dead"))

            assert (replayed.revived, outbox.dead_letters(), outbox.depth()) == (2, 0, 3)
            lane = [(await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]]
            assert (lane[0].attempts, lane[0].stored_at) == (0, time.now)
            while (following := await outbox.settle(lane[-1])) is not None:
                lane.append(following)
            assert [event("A", 1), event("A", 2), event("A", 3)] == [delivery.event for delivery in lane]

    async def test_a_replay_overtakes_nothing_in_flight(self, tmp_path: Path, time: Time) -> None:
        """A letter replayed while a later one of its call is in flight comes next, whether that one is settled or deferred."""
        async with self.open(tmp_path, time) as outbox:
            for call_id in "AB":
                await outbox.put(batch(event(call_id, 1), event(call_id, 2), event(call_id, 3)))
            heads = (await outbox.claim(HOOK, time.now, 9, ())).deliveries
            flying = [await outbox.bury(head, FAILED) for head in heads]
            await outbox.replay(Selection(type="turn.final"))

            assert (await outbox.settle(flying[0])).event == event("A", 1)
            assert (
                await outbox.defer(flying[1], FAILED, time.now + 9, asked=False, failed_at=time.now)
            ).event == event("B", 1)

    @pytest.mark.parametrize(
        ("selection", "found"),
        [
            (Selection(), ["A-1", "A-2", "B-1"]),
            (Selection(call_id="A"), ["A-1", "A-2"]),
            (Selection(id="msg_A-2"), ["A-2"]),
            (Selection(state="dead"), ["A-1"]),
            (Selection(state="owed"), ["A-2", "B-1"]),
            (Selection(endpoint=OTHER), ["B-1"]),
            (Selection(type="call.ended"), ["A-2"]),
            (Selection(since=1002.0), ["A-2"]),
            (Selection(until=1002.0), ["A-1", "B-1"]),
        ],
    )
    async def test_deliveries_are_found_by_what_is_known_of_them(
        self, tmp_path: Path, time: Time, selection: Selection, found: list[str]
    ) -> None:
        """Every part of a selection selects, among the owed and the dead."""
        async with self.open(tmp_path, time) as outbox:
            await outbox.put(batch(event("A", 1), event("A", 2, kind="call.ended"), event("B", 1, endpoint=OTHER)))
            head = (await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]
            await outbox.bury(head, FAILED)

            assert [f"msg_{name}" for name in found] == [
                record.id for record in await outbox.find(selection, 9, bodies=False)
            ]

    async def test_everything_is_there_after_opening_again(self, tmp_path: Path, time: Time) -> None:
        """Events, attempts, calls, turns, sessions and endpoints survive; what was in flight is owed again."""
        state = EndpointState(HOOK, disabled_at=5.0, failing_since=4.0, probes=3, probe_at=time.now)
        async with self.open(tmp_path, time) as outbox:
            await outbox.put(
                Batch(
                    events=(event("A", 1), event("A", 2)),
                    calls=(CallRecord("A", open=True, state=b"a"), CallRecord("B", open=False, state=b"b")),
                    turns=(
                        TurnRecord("A", "outbound", 0, b"o0"),
                        TurnRecord("A", "inbound", 1, b"i1"),
                        TurnRecord("A", "inbound", 0, b"i0"),
                    ),
                    sessions=(SessionRecord("s1", "A", "inbound", b"1"), SessionRecord("s2", "A", "outbound", b"2")),
                )
            )
            head = (await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]
            await outbox.defer(head, FAILED, time.now, asked=False, failed_at=time.now)
            await outbox.put(Batch(turns=(TurnRecord("A", "inbound", 0, b"new"),), closed_sessions=("s1",)))
            await outbox.keep_endpoint(state, release=False)
        async with self.open(tmp_path, time) as outbox:
            head = (await outbox.claim(HOOK, time.now, 9, ())).deliveries[0]
            assert (head.event, head.attempts) == (event("A", 1), 1)
            (left,) = await outbox.interrupted()
            assert left.call == CallRecord("A", open=True, state=b"a")
            assert [turn.body for turn in left.turns] == [b"new", b"i1", b"o0"]
            assert [SessionRecord("s2", "A", "outbound", b"2")] == left.sessions
            assert await outbox.call("B") == CallRecord("B", open=False, state=b"b")
            assert await outbox.endpoints() == [state]
            assert outbox.depth() == 2

    async def test_the_end_of_a_call_takes_its_turns_and_leaves_its_record(self, tmp_path: Path, time: Time) -> None:
        """With `call.ended` settled the call's turns are gone, but not those of the call opened anew meanwhile."""
        async with self.open(tmp_path, time) as outbox:
            await outbox.put(
                Batch(calls=(CallRecord("A", open=True, state=b"1"),), turns=(TurnRecord("A", "inbound", 0, b"old"),))
            )
            await outbox.put(
                Batch(
                    events=(event("A", 1, ends_call=True),),
                    calls=(CallRecord("A", open=False, state=b"2"),),
                    turns=(TurnRecord("A", "inbound", 1, b"last"),),
                )
            )
            await outbox.put(
                Batch(calls=(CallRecord("A", open=True, state=b"3"),), turns=(TurnRecord("A", "inbound", 2, b"anew"),))
            )
            assert len(await outbox.turns("A")) == 3
            await outbox.settle((await outbox.claim(HOOK, time.now, 9, ())).deliveries[0])

            assert [turn.body for turn in await outbox.turns("A")] == [b"anew"]
            assert await outbox.call("A") == CallRecord("A", open=True, state=b"3")

    async def test_a_sweep_takes_what_was_kept_long_enough(self, tmp_path: Path, time: Time) -> None:
        """Dead letters and ended calls go after the days they are kept, open calls never; turns go with their dead end."""
        async with self.open(tmp_path, time) as outbox:
            await outbox.put(
                Batch(
                    events=(event("A", 1, ends_call=True), event("C", 1)),
                    calls=tuple(CallRecord(call_id, open=call_id == "B", state=b"") for call_id in "ABC"),
                    turns=tuple(TurnRecord(call_id, "inbound", 0, b"") for call_id in "ABC"),
                    sessions=(SessionRecord("s", "A", "inbound", b""),),
                )
            )
            await outbox.bury((await outbox.claim(HOOK, time.now, 1, ())).deliveries[0], FAILED)
            time.now += 7 * 86400 - 1
            await outbox.sweep()
            assert [len(await outbox.turns(call_id)) for call_id in "ABC"] == [1, 1, 1]
            assert outbox.dead_letters() == 1
            time.now += 2
            await outbox.sweep()
            assert [len(await outbox.turns(call_id)) for call_id in "ABC"] == [0, 1, 1]
            assert outbox.dead_letters() == 0
            assert [await outbox.call(call_id) is not None for call_id in "ABC"] == [False, True, True]
            assert outbox.depth() == 1

    async def test_two_events_of_one_id_are_refused_and_nothing_else_is(self, tmp_path: Path, time: Time) -> None:
        """A batch that no store could take fails whole and alone: those put before and behind it are stored."""
        async with self.open(tmp_path, time) as outbox:
            futures = [
                outbox.put(batch(event("A", 1))),
                outbox.put(batch(event("B", 1), event("A", 1))),
                outbox.put(batch(event("C", 1))),
            ]
            results = await asyncio.gather(*futures, return_exceptions=True)

            assert [type(None), StateFault, type(None)] == [type(result) for result in results]
            assert [record.id for record in await outbox.find(Selection(), 9, bodies=False)] == ["msg_A-1", "msg_C-1"]
            assert (outbox.depth(), outbox.waiting()) == (2, 0)

    async def test_the_oldest_is_told_from_the_store_on(self, tmp_path: Path, time: Time) -> None:
        """The age of the oldest event owed is that of the first stored that is not settled; 0 where nothing is owed."""
        async with self.open(tmp_path, time) as outbox:
            assert outbox.oldest(time.now) == 0
            await outbox.put(batch(event("A", 1)))
            time.now += 5
            await outbox.put(batch(event("B", 1)))
            time.now += 5
            assert outbox.oldest(time.now) == 10
            await outbox.settle((await outbox.claim(HOOK, time.now, 1, ())).deliveries[0])
            assert outbox.oldest(time.now) == 5
