"""The fault tour: whatever fails, and whenever, each word that was spoken comes once, in its place; no session is left open."""

from collections.abc import Iterator

import pytest

from gateway.emulator.faults import Faults
from gateway.simulator import chaos
from gateway.simulator.scenarios import Scenario, chosen, knobs_used
from gateway.simulator.stage import Row

TOGETHER = 18
"""Scenarios at once: they mostly wait."""

NOT_TURNED = {"ahead_seconds", "heartbeat_seconds", "deflate", "over_limit_code", "sessions_per_minute", "speed"}
"""How the service behaves; not how it fails."""


@pytest.fixture(autouse=True)
def logs_kept() -> Iterator[None]:
    """What a scenario's gateway logs is shown where the scenario fails."""
    with chaos.keeping_logs():
        yield


async def tour(scenarios: list[Scenario], together: int = TOGETHER) -> list[Row]:
    return await chaos.tour(scenarios, together, lambda _row: None, lambda _scenario: None)


def hold(rows: list[Row]) -> None:
    failed = [row for row in rows if not row.passed]
    for row in failed:
        print(row.scenario.title, *row.log, *row.details, sep="\n")
    assert not failed, "\n".join(chaos.summary(rows))


def test_every_fault_is_on_the_tour() -> None:
    """Each knob with which the service can be made to fail is turned by some scenario."""
    assert set(Faults.__struct_fields__) - knobs_used() - {"at"} == NOT_TURNED


async def test_short_tour() -> None:
    """A fault of each kind: no word lost, doubled or moved, times right, sessions all ended, caught up in time."""
    hold(await tour([one for one in chosen(short=True) if not one.alone]))
