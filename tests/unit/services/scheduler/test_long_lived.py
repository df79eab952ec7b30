"""What waits is put aside from Python's collector while much of it does."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from services.scheduler import long_lived
from tests.unit.services.scheduler.fakes import Bench


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()


class Caught:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


async def test_a_long_queue_is_put_aside_and_a_short_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lived, "MANY", 4)
    bench = Bench()
    async with bench.running():
        for _ in range(3):
            await bench.submit()
        assert gc.get_freeze_count() == 0
        await bench.submit()
        assert gc.get_freeze_count() > 0


async def test_what_was_put_aside_by_chance_is_collected_once_the_queue_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(long_lived, "MANY", 4)
    bench = Bench()
    async with bench.running() as scheduler:
        caught = Caught()
        gone = weakref.ref(caught)
        jobs = [await bench.submit() for _ in range(4)]
        del caught
        for job in jobs[:2]:
            await scheduler.desk.cancel(job.id, job.tenant_id)
        gc.collect()
        assert gone() is not None
        await scheduler.desk.cancel(jobs[2].id, jobs[2].tenant_id)
        assert gone() is None


async def test_a_queue_that_stays_long_is_put_aside_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lived, "MANY", 4)
    bench = Bench()
    async with bench.running():
        for _ in range(4):
            await bench.submit()
        kept = [[number] for number in range(1000)]
        once = gc.get_freeze_count()
        for _ in range(4):
            await bench.submit()
        assert gc.get_freeze_count() >= once + len(kept)
