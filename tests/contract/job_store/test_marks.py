"""Checkpoints of attempts: written while one runs, kept when it ended, never written late."""

from __future__ import annotations

import asyncio

import pytest

from services.scheduler.job import AttemptRecord, Job
from services.scheduler.storage.store import Deposed, JobStore
from tests.contract.job_store.samples import (
    NOW,
    UNKNOWN,
    a_mark,
    a_requeue,
    a_start,
    a_success,
    kinds,
    queued,
    running,
    succeeded,
)


async def marks(store: JobStore, job: Job) -> list[tuple[str, int]]:
    return [(attempt.checkpoint_ref, attempt.checkpoint_step) for attempt in await store.attempts(job.id)]


async def test_a_running_attempt_keeps_its_latest_checkpoint_and_the_job_is_as_before(store: JobStore) -> None:
    job = await running(store)
    assert await marks(store, job) == [("", 0)]
    for step in (10, 20):
        assert await store.mark(a_mark(job, step=step))
    assert await marks(store, job) == [(a_mark(job, step=20).ref, 20)]
    assert await store.get(job.id) == job
    assert await kinds(store, job) == ["queued", "started"]


async def test_an_older_or_the_same_checkpoint_changes_nothing(store: JobStore) -> None:
    job = await running(store)
    await store.mark(a_mark(job, step=20))
    assert [await store.mark(a_mark(job, step=step)) for step in (10, 20)] == [False, False]
    assert await marks(store, job) == [(a_mark(job, step=20).ref, 20)]


async def test_it_outlives_the_attempt_and_the_next_one_has_its_own(store: JobStore) -> None:
    job = await running(store)
    await store.mark(a_mark(job, step=30))
    await store.requeue(a_requeue(job, gpu_ms=70.0))
    lost = (await store.attempts(job.id))[0]
    assert (lost.outcome, lost.gpu_ms, lost.checkpoint_step) == ("lost", 70.0, 30)
    await store.start(a_start(job, attempt=2))
    assert await marks(store, job) == [(lost.checkpoint_ref, 30), ("", 0)]
    assert await store.mark(a_mark(job, attempt=2, step=10))
    assert await store.end(a_success(job, attempt=2)) is not None
    assert await marks(store, job) == [(lost.checkpoint_ref, 30), (a_mark(job, attempt=2).ref, 10)]


async def test_what_comes_too_late_or_to_nobody_changes_nothing(store: JobStore) -> None:
    waiting, ended, lost = await queued(store, 1), await succeeded(store, 2), await running(store, 3)
    await store.requeue(a_requeue(lost))
    await store.start(a_start(lost, attempt=2))
    before = [await store.attempts(job.id) for job in (waiting, ended, lost)]
    late = [a_mark(waiting), a_mark(ended), a_mark(lost), a_mark(lost, 3), a_mark(waiting.evolve(id=UNKNOWN))]
    assert [await store.mark(mark) for mark in late] == [False] * 5
    assert [await store.attempts(job.id) for job in (waiting, ended, lost)] == before


async def test_a_deposed_leader_marks_nothing(store: JobStore) -> None:
    job = await running(store)
    await store.take_lead("scheduler-1", NOW)
    with pytest.raises(Deposed):
        await store.mark(a_mark(job))
    assert await marks(store, job) == [("", 0)]
    assert await store.mark(a_mark(job, epoch=2))


async def test_marks_beside_an_ending_leave_one_ending_and_a_whole_mark(store: JobStore) -> None:
    job = await running(store)
    writes = [store.mark(a_mark(job, step=step)) for step in range(1, 9)]
    *answers, ended = await asyncio.gather(*writes, store.end(a_success(job)))
    assert ended is not None
    attempt: AttemptRecord
    (attempt,) = await store.attempts(job.id)
    assert attempt.outcome == "succeeded"
    assert (attempt.checkpoint_step > 0) == any(answers)
    assert attempt.checkpoint_ref == (a_mark(job, step=attempt.checkpoint_step).ref if any(answers) else "")
