"""Changes of a job: what each leaves behind, and every one that comes too late."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy.exc import SQLAlchemyError

from services.scheduler.job import Change, IllegalChange, Job, JobState, OutboxMessage
from services.scheduler.storage.store import JobStore
from tests.contract.job_store.samples import (
    NOW,
    OTHER,
    SETTLE,
    STAGES,
    TENANT,
    UNKNOWN,
    WORKER,
    a_requeue,
    a_start,
    a_success,
    an_ending,
    an_image,
    kinds,
    queued,
    running,
    succeeded,
)

FINAL = {"completed", "failed", "cancelled", "expired"}
Late = Callable[[JobStore, Job], Awaitable[Job | None]]


async def test_a_start_makes_it_running_with_an_attempt_that_counts(store: JobStore) -> None:
    job = await queued(store)
    started = await store.start(a_start(job))
    assert started == job.evolve(
        state=JobState.RUNNING, attempt=1, counted_attempts=1, worker=WORKER, started_at=NOW + 10
    )
    assert await store.get(job.id) == started
    (attempt,) = await store.attempts(job.id)
    assert (attempt.attempt, attempt.worker, attempt.epoch, attempt.outcome) == (1, WORKER, 1, "running")
    assert (attempt.started_at, attempt.ended_at, attempt.traceparent) == (NOW + 10, None, "00-1-3-01")
    event = (await store.events(job.id, 1))[0]
    assert (event.seq, event.kind, event.time) == (2, "started", NOW + 10)
    assert dict(event.payload) == {"attempt": 1, "worker": WORKER}


async def test_it_started_when_its_first_attempt_did(store: JobStore) -> None:
    job = await running(store)
    assert await store.requeue(a_requeue(job)) is not None
    again = await store.start(dataclasses.replace(a_start(job, 2), now=NOW + 500))
    assert again is not None
    assert again.started_at == job.started_at == NOW + 10
    assert [attempt.started_at for attempt in await store.attempts(job.id)] == [NOW + 10, NOW + 500]


async def test_a_job_to_be_cancelled_is_not_started_again(store: JobStore) -> None:
    job = await running(store)
    await store.request_cancel(job.id, TENANT)
    waiting = await store.requeue(a_requeue(job))
    assert waiting is not None
    assert waiting.cancel_requested
    assert await store.start(a_start(job, 2)) is None
    assert await store.get(job.id) == waiting


async def test_a_success_keeps_pictures_stages_cost_and_message(store: JobStore) -> None:
    job = await running(store)
    ending = a_success(job, images=(an_image(1), an_image(0)))
    ended = await store.end(ending)
    assert ended == job.evolve(
        state=JobState.SUCCEEDED,
        finished_at=NOW + 20,
        expires_at=NOW + 86_400,
        actual_units=11.0,
        charged_units=9.5,
        charge_reason="never more than estimated",
        images=(an_image(0), an_image(1)),
        stages=STAGES,
    )
    assert await store.get(job.id) == ended
    (attempt,) = await store.attempts(job.id)
    assert (attempt.outcome, attempt.ended_at, attempt.gpu_ms) == ("succeeded", NOW + 20, 1500.0)
    assert [(m.kind, m.payload) for m in await store.pending_messages(10, NOW)] == [("settle", SETTLE.payload)]


async def test_the_events_of_a_success_tell_all_a_reader_needs(store: JobStore) -> None:
    job = await succeeded(store)
    events = await store.events(job.id, 0)
    assert [(event.seq, event.kind) for event in events] == [
        (1, "queued"),
        (2, "started"),
        (3, "image"),
        (4, "image"),
        (5, "completed"),
    ]
    picture = events[3].payload["image"]
    assert (picture["index"], picture["sha256"], picture["seed"]) == (1, an_image(1).sha256, 2**32 - 2)
    final = events[-1].payload
    assert [image["index"] for image in final["images"]] == [0, 1]
    assert final["expires_at"] == NOW + 86_400
    assert final["cost"] == {
        "estimated_units": 12.5,
        "actual_units": 11.0,
        "charged_units": 9.5,
        "reason": "never more than estimated",
    }


async def test_a_failure_tells_why_and_keeps_the_pictures_it_has(store: JobStore) -> None:
    job = await running(store)
    ended = await store.end(an_ending(job, 1, Change.FAIL, images=(an_image(0),), charged_units=1.0))
    assert ended is not None
    assert ended.state is JobState.FAILED
    assert await store.get(job.id) == ended
    final = (await store.events(job.id, 0))[-1]
    assert (final.kind, final.payload["reason"], final.payload["metadata"]) == (
        "failed",
        "WORKER_LOST",
        {"attempts": "3"},
    )
    assert final.payload["message"] == "Its worker was lost."
    assert len(final.payload["images"]) == 1
    assert final.payload["cost"]["charged_units"] == 1.0
    assert [(a.outcome, a.reason) for a in await store.attempts(job.id)] == [("failed", "WORKER_LOST")]


@pytest.mark.parametrize(
    ("change", "state", "kind"),
    [
        (Change.CANCEL, JobState.CANCELLED, "cancelled"),
        (Change.EXPIRE, JobState.EXPIRED, "expired"),
        (Change.FAIL, JobState.FAILED, "failed"),
    ],
)
async def test_a_waiting_job_can_end_without_an_attempt(
    store: JobStore, change: Change, state: JobState, kind: str
) -> None:
    job = await queued(store)
    ended = await store.end(an_ending(job, 0, change, outbox=(SETTLE,)))
    assert ended is not None
    assert ended.state is state
    assert await store.get(job.id) == ended
    assert await kinds(store, job) == ["queued", kind]
    assert await store.attempts(job.id) == []
    assert len(await store.pending_messages(10, NOW)) == 1
    if change is Change.EXPIRE:
        assert (await store.events(job.id, 1))[0].payload["waited_s"] == NOW + 20 - job.created_at


async def test_a_lost_attempt_queues_the_job_again(store: JobStore) -> None:
    job = await running(store)
    again = await store.requeue(a_requeue(job, not_before=NOW + 30, gpu_ms=70.0))
    assert again is not None
    assert (again.state, again.attempt, again.counted_attempts, again.worker) == (JobState.QUEUED, 1, 1, "")
    assert (again.queued_at, again.not_before) == (NOW + 15, NOW + 30)
    assert await store.get(job.id) == again
    (attempt,) = await store.attempts(job.id)
    assert (attempt.outcome, attempt.reason, attempt.ended_at, attempt.gpu_ms) == (
        "lost",
        "WORKER_LOST",
        NOW + 15,
        70.0,
    )
    second = await store.start(a_start(job, attempt=2))
    assert second is not None
    assert (second.attempt, second.counted_attempts) == (2, 2)
    assert await store.end(a_success(job, attempt=2)) is not None
    assert await kinds(store, job) == ["queued", "started", "queued", "started", "image", "image", "completed"]
    assert [event.seq for event in await store.events(job.id, 0)] == list(range(1, 8))
    assert [a.outcome for a in await store.attempts(job.id)] == ["lost", "succeeded"]


async def test_an_attempt_that_does_not_count_is_given_back(store: JobStore) -> None:
    job = await running(store)
    again = await store.requeue(a_requeue(job, counted=False))
    assert again is not None
    assert (again.attempt, again.counted_attempts) == (1, 0)


async def test_cancelling_a_running_job_is_remembered_over_a_lost_attempt(store: JobStore) -> None:
    job = await running(store)
    marked = await store.request_cancel(job.id, TENANT)
    assert marked == job.evolve(cancel_requested=True)
    again = await store.requeue(a_requeue(job))
    assert again is not None
    assert again.cancel_requested
    assert (await store.open_jobs()) == [again]


async def test_cancel_requests_change_only_an_open_job_of_the_tenant(store: JobStore) -> None:
    job = await succeeded(store)
    assert await store.request_cancel(job.id, TENANT) == job
    assert await store.request_cancel(job.id, OTHER) is None
    assert await store.request_cancel(UNKNOWN, TENANT) is None
    assert await store.get(job.id) == job


LATE: dict[str, tuple[Callable[[JobStore], Awaitable[Job]], Late]] = {
    "start twice": (running, lambda store, job: store.start(a_start(job))),
    "start the next attempt of a running job": (running, lambda store, job: store.start(a_start(job, attempt=2))),
    "start out of turn": (queued, lambda store, job: store.start(a_start(job, attempt=2))),
    "start after the end": (succeeded, lambda store, job: store.start(a_start(job, attempt=2))),
    "end before it started": (queued, lambda store, job: store.end(a_success(job))),
    "end another attempt": (running, lambda store, job: store.end(a_success(job, attempt=2))),
    "end twice": (succeeded, lambda store, job: store.end(a_success(job))),
    "fail after success": (succeeded, lambda store, job: store.end(an_ending(job, 1, Change.FAIL))),
    "cancel after success": (succeeded, lambda store, job: store.end(an_ending(job, 1, Change.CANCEL))),
    "expire a running job": (running, lambda store, job: store.end(an_ending(job, 0, Change.EXPIRE))),
    "cancel the waiting of a running job": (running, lambda store, job: store.end(an_ending(job, 0, Change.CANCEL))),
    "expire after success": (succeeded, lambda store, job: store.end(an_ending(job, 0, Change.EXPIRE))),
    "requeue a waiting job": (queued, lambda store, job: store.requeue(a_requeue(job))),
    "requeue no attempt": (queued, lambda store, job: store.requeue(a_requeue(job, attempt=0))),
    "requeue another attempt": (running, lambda store, job: store.requeue(a_requeue(job, attempt=2))),
    "requeue after success": (succeeded, lambda store, job: store.requeue(a_requeue(job))),
}


@pytest.mark.parametrize("case", LATE)
async def test_what_comes_too_late_changes_nothing(store: JobStore, case: str) -> None:
    prepare, act = LATE[case]
    job = await prepare(store)
    before = await store.events(job.id, 0), await store.attempts(job.id), await store.pending_messages(10, NOW)
    assert await act(store, job) is None
    assert await store.get(job.id) == job
    after = await store.events(job.id, 0), await store.attempts(job.id), await store.pending_messages(10, NOW)
    assert after == before


async def test_a_lost_worker_that_answers_during_the_next_attempt_changes_nothing(store: JobStore) -> None:
    job = await running(store)
    await store.requeue(a_requeue(job))
    assert await store.end(a_success(job, attempt=1)) is None
    second = await store.start(a_start(job, attempt=2))
    assert await store.end(a_success(job, attempt=1)) is None
    assert await store.requeue(a_requeue(job, attempt=1)) is None
    assert await store.get(job.id) == second


async def test_a_result_after_a_cancel_changes_nothing(store: JobStore) -> None:
    job = await running(store)
    cancelled = await store.end(an_ending(job, 1, Change.CANCEL))
    assert await store.end(a_success(job)) is None
    assert await store.get(job.id) == cancelled
    assert await store.pending_messages(10, NOW) == []


async def test_unknown_jobs_are_too_late(store: JobStore) -> None:
    nobody = (await queued(store)).evolve(id=UNKNOWN)
    assert await store.start(a_start(nobody)) is None
    assert await store.end(a_success(nobody)) is None
    assert await store.requeue(a_requeue(nobody)) is None
    assert await store.attempts(nobody.id) == []


async def test_of_many_endings_at_once_one_wins(store: JobStore) -> None:
    job = await running(store)
    endings = [a_success(job), an_ending(job, 1, Change.FAIL), an_ending(job, 1, Change.CANCEL)] * 5
    answers = await asyncio.gather(*(store.end(ending) for ending in endings))
    (winner,) = [answer for answer in answers if answer is not None]
    assert await store.get(job.id) == winner
    assert len(FINAL & set(await kinds(store, job))) == 1
    assert sum(kind in FINAL for kind in await kinds(store, job)) == 1


async def test_a_change_the_table_does_not_have_is_our_own_fault(store: JobStore) -> None:
    job = await queued(store)
    with pytest.raises(IllegalChange):
        await store.end(an_ending(job, 0, Change.SUCCEED))
    assert await store.get(job.id) == job


async def test_an_ending_that_cannot_be_written_whole_is_not_written(store: JobStore) -> None:
    job = await running(store)
    with pytest.raises((TypeError, SQLAlchemyError)):
        await store.end(a_success(job, outbox=(SETTLE, OutboxMessage("settle", {"not": object()}))))
    assert await store.get(job.id) == job
    assert await kinds(store, job) == ["queued", "started"]
    assert await store.pending_messages(10, NOW) == []
    assert (await store.attempts(job.id))[0].outcome == "running"
