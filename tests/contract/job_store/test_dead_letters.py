"""Dead letters: kept apart when attempts are used up, queued again, forgotten; and jobs that go to another model."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from libs.ids import JobId
from services.scheduler.job import Change, Job, JobState
from services.scheduler.storage.store import Deposed, JobStore
from services.scheduler.storage.wishes import Dismissal, Downgrade, Revival
from tests.contract.job_store.samples import (
    CONFIRM,
    NOW,
    SETTLE,
    UNKNOWN,
    a_mark,
    a_requeue,
    a_start,
    a_success,
    an_ending,
    an_image,
    kinds,
    queued,
    running,
)


def a_revival(job: Job, epoch: int = 1) -> Revival:
    return Revival(job.id, epoch, NOW + 99, outbox=(CONFIRM,))


async def dead(store: JobStore, number: int = 1, at: float = NOW + 20, images: bool = False) -> Job:
    job = await running(store, number)
    assert await store.mark(a_mark(job))
    changes: dict[str, Any] = {"images": (an_image(0),), "expires_at": NOW + 500} if images else {}
    ending = an_ending(job, 1, Change.FAIL, dead=True, outbox=(SETTLE,), charged_units=1.0, **changes)
    ended = await store.end(dataclasses.replace(ending, now=at))
    assert ended is not None
    return ended


async def test_dead_letters_are_the_latest_first_and_no_other_failures(store: JobStore) -> None:
    early, late = await dead(store, 1, NOW + 20), await dead(store, 2, NOW + 30)
    invalid = await running(store, 3)
    await store.end(an_ending(invalid, 1, Change.FAIL))
    assert early.dead_at == NOW + 20
    assert await store.dead_letters(9) == [late, early]
    assert await store.dead_letters(1) == [late]


async def test_a_deleted_dead_letter_is_gone(store: JobStore) -> None:
    job = await dead(store)
    assert await store.delete(job.id, job.tenant_id, NOW) is not None
    assert await store.dead_letters(9) == []
    assert await store.alter(a_revival(job)) is None


@pytest.mark.parametrize("images", [False, True])
async def test_a_revived_job_waits_as_new_with_its_old_id(store: JobStore, images: bool) -> None:
    job = await dead(store, images=images)
    before = await store.pending_messages(9, NOW)
    waiting = await store.alter(a_revival(job))
    assert waiting is not None
    assert waiting == await store.get(job.id)
    assert (waiting.state, waiting.attempt, waiting.counted_attempts, waiting.revivals) == (JobState.QUEUED, 1, 0, 1)
    assert (waiting.queued_at, waiting.dead_at, waiting.failure, waiting.images) == (NOW + 99, None, None, ())
    assert (waiting.finished_at, waiting.deadline_at, waiting.charged_units) == (None, None, 0.0)
    assert (await kinds(store, job))[-2:] == ["failed", "queued"]
    assert [m.payload for m in (await store.pending_messages(9, NOW))[len(before) :]] == [dict(CONFIRM.payload)]
    assert await store.dead_letters(9) == []
    assert waiting in await store.open_jobs()
    assert [(a.outcome, a.checkpoint_ref, a.checkpoint_step) for a in await store.attempts(job.id)] == [
        ("failed", "", 0)
    ]


async def test_a_revived_job_can_succeed_with_the_same_pictures(store: JobStore) -> None:
    job = await dead(store, images=True)
    await store.alter(a_revival(job))
    assert await store.start(a_start(job, 2)) is not None
    done = await store.end(a_success(job, 2))
    assert done is not None
    assert await store.get(job.id) == done
    assert [image.index for image in done.images] == [0, 1]


async def test_a_job_comes_back_once_for_each_time_it_died(store: JobStore) -> None:
    job = await dead(store)
    assert await store.alter(a_revival(job)) is not None
    assert await store.alter(a_revival(job)) is None
    assert await kinds(store, job) == ["queued", "started", "failed", "queued"]


async def test_a_dismissed_letter_is_still_its_owners_failed_job(store: JobStore) -> None:
    job = await dead(store, images=True)
    before = await kinds(store, job)
    gone = await store.alter(Dismissal(job.id, 1, NOW + 99))
    assert gone == job.evolve(dead_at=None) == await store.get(job.id)
    assert await kinds(store, job) == before
    assert await store.dead_letters(9) == []
    assert await store.alter(Dismissal(job.id, 1, NOW + 99)) is None
    assert await store.alter(a_revival(job)) is None


async def test_another_model_takes_over_while_the_job_waits(store: JobStore) -> None:
    job = await running(store, cache_key="of the first model")
    assert await store.mark(a_mark(job))
    await store.requeue(a_requeue(job, not_before=NOW + 60))
    other = await store.alter(Downgrade(job.id, 1, NOW + 30, "small@2"))
    assert other is not None
    assert other == await store.get(job.id)
    assert (other.model_version, other.downgraded_from, other.cache_key) == ("small@2", "shapes@1", "")
    assert (other.counted_attempts, other.fresh_after, other.not_before) == (0, 1, 0.0)
    assert other.queued_at == NOW + 15
    assert (await kinds(store, job))[-1] == "queued"
    assert [record.checkpoint_ref for record in await store.attempts(job.id)] == [""]
    third = await store.alter(Downgrade(job.id, 1, NOW + 30, "tiny@1"))
    assert third is not None
    assert third.downgraded_from == "shapes@1"


async def test_a_job_that_runs_or_is_over_keeps_its_model(store: JobStore) -> None:
    runs, ended = await running(store, 1), await dead(store, 2)
    for job in (runs, ended):
        assert await store.alter(Downgrade(job.id, 1, NOW + 30, "small@2")) is None
        assert await store.get(job.id) == job


async def test_what_is_not_dead_does_not_come_back(store: JobStore) -> None:
    for job_id in (UNKNOWN, (await queued(store, 1)).id, (await running(store, 2)).id):
        assert await store.alter(Revival(JobId(job_id), 1, NOW)) is None


async def test_only_the_leader_alters(store: JobStore) -> None:
    job = await dead(store)
    await store.take_lead("scheduler-1", NOW)
    with pytest.raises(Deposed):
        await store.alter(a_revival(job))
    assert await store.get(job.id) == job
