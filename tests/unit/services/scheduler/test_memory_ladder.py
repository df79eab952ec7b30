"""A job that does not fit goes where there is more memory, then to a worker of its own, and only then fails."""

from __future__ import annotations

import pytest

from libs.clients.modelserver import AttemptFailed
from libs.generation.attempt import FailureKind
from services.scheduler.job import JobState
from tests.unit.services.scheduler.fakes import Bench, FakeModelServer, pictures, record, silence

GIB = 2**30


def full(order):
    return [AttemptFailed(FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY", "full; 512×512 fits", 1.0)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def sizes(**gib: int):
    return [record(name, memory_bytes=size * GIB, rows=4) for name, size in gib.items()]


async def test_the_next_attempt_goes_to_a_device_with_more_memory(bench: Bench) -> None:
    async with bench.running():
        small, twin, large = await bench.workers(*sizes(a=24, b=24, c=80), script=full)
        large.script = pictures
        done = await bench.now((await bench.submit()).id)
        assert done.state is JobState.SUCCEEDED
        assert [len(server.orders) for server in (small, twin, large)] == [1, 0, 1]


async def test_where_none_has_more_another_is_tried_but_none_with_less(bench: Bench) -> None:
    async with bench.running():
        servers = await bench.workers(*sizes(a=80, b=80, c=24), script=full)
        failed = await bench.now((await bench.submit()).id)
        assert failed.failure is not None
        assert "512×512 fits" in failed.failure.message
        assert [bool(server.orders) for server in servers] == [True, True, False]


async def test_the_last_attempt_has_a_worker_of_its_own(bench: Bench) -> None:
    def full_twice(order):
        return full(order) if order.attempt < 3 else silence(order)

    async with bench.running():
        first, second = await bench.workers(*sizes(a=24, b=24), script=full_twice)
        large = await bench.submit()
        mine, other = _sides(first, second, large.id)
        for server in (mine, other):
            server.script = silence
        small = [await bench.submit() for _ in range(5)]
        on_mine = [order.job_id for order in mine.orders if order.attempt == 1 and order.job_id != large.id]
        assert on_mine == []
        assert len([order for order in other.orders if order.job_id != large.id]) == 4  # the fifth waits
        mine.say(mine.orders[-1], *pictures(mine.orders[-1]))
        assert (await bench.now(large.id)).state is JobState.SUCCEEDED
        assert {(await bench.now(job.id)).state for job in small} == {JobState.RUNNING}


def _sides(first: FakeModelServer, second: FakeModelServer, job_id: str) -> tuple[FakeModelServer, FakeModelServer]:
    """Return the server of the job's third attempt, and the other one."""
    holds = [any((order.job_id, order.attempt) == (job_id, 3) for order in server.orders) for server in (first, second)]
    assert sorted(holds) == [False, True]
    return (first, second) if holds[0] else (second, first)
