"""The scheduler's view of the fleet, over states that the test sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace

import pytest

from libs.coordination.registry import Presence, Snapshot
from libs.fleet.directory import LEAST_BETWEEN_S, Directory
from libs.fleet.record import WORKERS_PREFIX, WorkerRecord
from libs.ids import WorkerId
from libs.testing.clock import ManualClock

ONE = WorkerRecord(WorkerId("one"), "i", "127.0.0.1:20001", "cpu", 0, (), (), rows=9, rows_in_use=0, started_at=0.0)
TWO = replace(ONE, worker_id=WorkerId("two"))


class SentStates:
    """A registry whose watch yields what the test puts into its queue."""

    def __init__(self) -> None:
        self.states: asyncio.Queue[Snapshot] = asyncio.Queue()

    def announce(self, lease_ttl_s: int) -> Presence:
        raise NotImplementedError

    async def watch(self, prefix: str) -> AsyncGenerator[Snapshot, None]:
        assert prefix == WORKERS_PREFIX
        while True:
            yield await self.states.get()


@pytest.fixture
def registry() -> SentStates:
    return SentStates()


@pytest.fixture
async def directory(registry: SentStates) -> AsyncIterator[Directory]:
    directory = Directory(registry)
    task = asyncio.create_task(directory.run())
    yield directory
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def send(directory: Directory, registry: SentStates, state: Snapshot) -> None:
    async with asyncio.timeout(5), directory.changed:
        registry.states.put_nowait(state)
        await directory.changed.wait()


def state(*records: WorkerRecord, stale_since: float | None = None, raw: Mapping[str, bytes] | None = None) -> Snapshot:
    values = {record.key: record.to_json() for record in records}
    values |= {WORKERS_PREFIX + name: value for name, value in (raw or {}).items()}
    return Snapshot(values, revision=1, stale_since=stale_since)


async def test_it_keeps_the_last_known_fleet_when_the_registry_is_gone(
    directory: Directory, registry: SentStates
) -> None:
    await send(directory, registry, state(stale_since=5.0))
    assert not directory.synced
    await send(directory, registry, state(ONE, TWO))
    fleet = directory.workers()
    assert fleet == {"one": ONE, "two": TWO}
    await send(directory, registry, state(stale_since=9.0))
    assert directory.stale_since == 9.0
    assert directory.workers() == fleet
    await send(directory, registry, state(TWO))
    assert directory.stale_since is None
    assert directory.workers() == {"two": TWO}
    assert len(fleet) == 2  # what was handed out does not change


async def test_a_record_that_cannot_be_read_is_left_out_and_told_once(
    directory: Directory, registry: SentStates, caplog: pytest.LogCaptureFixture
) -> None:
    unreadable = {"two": b"{", "three": ONE.to_json()}
    await send(directory, registry, state(ONE, raw=unreadable))
    await send(directory, registry, state(replace(ONE, rows_in_use=2), raw=unreadable))
    assert [record.rows_in_use for record in directory.workers().values()] == [2]
    assert len(caplog.records) == 2


async def test_waiting_ends_when_the_fleet_is_as_wanted(directory: Directory, registry: SentStates) -> None:
    waiting = asyncio.create_task(directory.wait_for(lambda: "two" in directory.workers()))
    await send(directory, registry, state(ONE))
    assert not waiting.done()
    await send(directory, registry, state(ONE, TWO))
    async with asyncio.timeout(5):
        await waiting


async def test_changes_that_come_together_are_told_once() -> None:
    registry, clock = SentStates(), ManualClock()
    directory = Directory(registry, clock)
    task = asyncio.create_task(directory.run())
    await send(directory, registry, state(ONE))
    first = directory.workers()
    for rows in (1, 2, 3):
        registry.states.put_nowait(state(replace(ONE, rows=rows)))
    await clock.settle()
    assert directory.workers() is first
    await clock.advance(LEAST_BETWEEN_S)
    assert directory.workers()[ONE.worker_id].rows == 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_came_just_before_the_registry_went_is_not_lost() -> None:
    registry, clock = SentStates(), ManualClock()
    directory = Directory(registry, clock)
    task = asyncio.create_task(directory.run())
    await send(directory, registry, state(ONE))
    registry.states.put_nowait(state(ONE, TWO))
    registry.states.put_nowait(state(ONE, TWO, stale_since=5.0))
    await clock.advance(LEAST_BETWEEN_S)
    assert (set(directory.workers()), directory.stale_since) == ({ONE.worker_id, TWO.worker_id}, 5.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
