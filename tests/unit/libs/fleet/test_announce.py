"""How often a worker writes, and that its last state gets there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import pytest

from libs.coordination.registry import Presence, Snapshot
from libs.fleet.announce import Announcer
from libs.fleet.record import BadRecord, WorkerRecord
from libs.ids import WorkerId
from libs.testing.clock import ManualClock

RECORD = WorkerRecord(WorkerId("w"), "i", "127.0.0.1:20001", "cpu", 0, (), (), rows=9, rows_in_use=0, started_at=0.0)


class CountingRegistry:
    """A registry and its only presence; notes the rows in use of every put."""

    def __init__(self) -> None:
        self.rows_put: list[int] = []
        self.runs = False

    def announce(self, lease_ttl_s: int) -> Presence:
        return self

    def watch(self, prefix: str) -> AsyncGenerator[Snapshot, None]:
        raise NotImplementedError

    def put(self, key: str, value: bytes) -> None:
        assert key == RECORD.key
        self.rows_put.append(WorkerRecord.from_json(value).rows_in_use)

    def remove(self, key: str) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        self.runs = True
        try:
            await asyncio.Event().wait()
        finally:
            self.runs = False


@pytest.fixture
def registry() -> CountingRegistry:
    return CountingRegistry()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def announcer(registry: CountingRegistry, clock: ManualClock) -> AsyncIterator[Announcer]:
    announcer = Announcer(registry, RECORD, lease_ttl_s=5, clock=clock)
    task = asyncio.create_task(announcer.run())
    await clock.settle()
    assert registry.runs
    yield announcer
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not registry.runs


async def test_changes_within_a_second_are_one_write_of_the_last(
    announcer: Announcer, registry: CountingRegistry, clock: ManualClock
) -> None:
    assert registry.rows_put == [0]
    for rows in (1, 2, 3):
        announcer.publish(replace(RECORD, rows_in_use=rows))
    await clock.advance(0.9)
    assert registry.rows_put == [0]
    await clock.advance(0.2)
    assert registry.rows_put == [0, 3]
    await clock.advance(5.0)
    announcer.publish(replace(RECORD, rows_in_use=4))
    await clock.settle()
    assert registry.rows_put == [0, 3, 4]  # after a quiet second at once


async def test_what_changes_nothing_is_not_written(
    announcer: Announcer, registry: CountingRegistry, clock: ManualClock
) -> None:
    announcer.publish(replace(RECORD))
    await clock.advance(5.0)
    assert registry.rows_put == [0]


async def test_a_record_that_cannot_be_announced_is_refused_where_it_is_published(announcer: Announcer) -> None:
    with pytest.raises(BadRecord):
        announcer.publish(replace(RECORD, models=("m" * 20_000,)))
    with pytest.raises(ValueError, match="name"):
        announcer.publish(replace(RECORD, worker_id=WorkerId("other")))
    assert announcer.record is RECORD
