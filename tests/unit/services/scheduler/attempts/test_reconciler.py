"""Rebuilding memory from the store."""

from __future__ import annotations

import pytest

from services.scheduler.attempts import reconciler
from services.scheduler.job import JobState
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
