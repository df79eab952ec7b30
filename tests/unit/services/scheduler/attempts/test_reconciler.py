"""Rebuilding memory from the store, and looking at what is in doubt."""

from __future__ import annotations

import asyncio

import pytest

from libs.ids import JobId, TenantId
from services.scheduler.attempts import reconciler
from services.scheduler.job import Job, JobState
from services.scheduler.storage.memory_store import MemoryStore
from tests.unit.services.scheduler.fakes import Bench, record, silence


@pytest.mark.parametrize("page", [1, 2, 5, 6, 1000])
async def test_every_open_job_is_read_whatever_the_page(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "PAGE", page)
    bench = Bench()
    async with bench.running():
        await bench.workers(record(), script=silence)
        jobs = [await bench.submit() for _ in range(6)]
        await bench.store.request_cancel(jobs[3].id, jobs[3].tenant_id, bench.scheduler.lead.epoch)
    async with bench.running() as again:
        assert {job.id for job in again.jobs.all()} == {job.id for job in jobs if job is not jobs[3]}
        assert [job.id for job in again.jobs.running()] == [jobs[0].id]
        assert (await bench.now(jobs[3].id)).state is JobState.CANCELLED


class Busy(MemoryStore):
    """Counts the reads under way; each takes a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.under_way = self.most = 0

    async def get(self, job_id: JobId, tenant: TenantId | None = None) -> Job | None:
        self.reads += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return await super().get(job_id, tenant)


async def test_many_doubts_are_looked_at_side_by_side_and_not_all_at_once() -> None:
    store = Busy()
    bench = Bench(store)
    async with bench.running() as scheduler:
        for number in range(100):
            scheduler.reconciler.doubt(JobId(f"job_{number}"))
        for seconds in reconciler.LOOKS_S:
            await bench.clock.advance(seconds + 0.1)
        assert (store.reads, store.most) == (300, reconciler.LOOKED_AT_ONCE)
