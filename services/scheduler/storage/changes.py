"""What each change makes of a job: the next job, its attempt row and its events. Pure; every store applies it.

An attempt counts towards the dead letter from its start, so that a job that kills its scheduler counts too; an
uncounted requeue gives it back. Event payloads hold all a reader needs without the job's row:

    queued    {}
    started   {attempt, worker}
    image     {image, expires_at}
    completed {images, cost, expires_at}
    failed    {reason, message, metadata, images, cost, expires_at}
    cancelled {cost}
    expired   {waited_s, cost}

`image` is an ImageStored as an object; `cost` is {estimated_units, actual_units, charged_units, reason}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from libs.ids import JobId, WorkerId
from services.scheduler.job import AttemptRecord, Change, Failure, IllegalChange, Job, JobState, after
from services.scheduler.storage.wishes import Ending, Mark, Requeue, Start

RUNNING_OUTCOME = "running"  # of an attempt that has not ended
FINAL_KINDS: Mapping[JobState, str] = MappingProxyType(
    {
        JobState.SUCCEEDED: "completed",
        JobState.FAILED: "failed",
        JobState.CANCELLED: "cancelled",
        JobState.EXPIRED: "expired",
    }
)
_OUTCOMES = {Change.SUCCEED: "succeeded", Change.FAIL: "failed", Change.CANCEL: "cancelled"}
_UNKNOWN_FAILURE = Failure("INTERNAL", "The job failed for an unknown reason.")


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A durable event before it has its number."""

    kind: str
    time: float
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How the running attempt ended."""

    attempt: int
    outcome: str
    reason: str
    ended_at: float
    gpu_ms: float


@dataclass(frozen=True, slots=True)
class Step:
    """What a change leaves behind, to be written in one transaction."""

    job: Job
    events: tuple[NewEvent, ...]
    opened: AttemptRecord | None = None
    closed: AttemptEnd | None = None
    fresh: bool = False  # pictures and checkpoints of its attempts are the job's no more


def accepted(job: Job) -> Step:
    """Return a new job as it enters the queue."""
    queued = job.evolve(queued_at=job.queued_at or job.created_at)
    return Step(queued, (NewEvent("queued", job.created_at, {}),))


def started(job: Job, start: Start) -> Step | None:
    """Return the job with its next attempt; None unless it is QUEUED with one attempt less.

    None too when its owner asked to cancel it during an earlier attempt: such a job never runs again.
    """
    if job.state is not JobState.QUEUED or start.attempt != job.attempt + 1 or job.cancel_requested:
        return None
    running = job.evolve(
        state=after(job.state, Change.START),
        attempt=start.attempt,
        counted_attempts=job.counted_attempts + 1,
        worker=start.worker,
        started_at=start.now if job.started_at is None else job.started_at,
        cache_key=job.cache_key if start.cache_key is None else start.cache_key,
        run_of=JobId(""),
        run_attempt=0,
    )
    opened = AttemptRecord(
        job_id=job.id,
        attempt=start.attempt,
        worker=start.worker,
        epoch=start.epoch,
        outcome=RUNNING_OUTCOME,
        reason="",
        started_at=start.now,
        ended_at=None,
        gpu_ms=0.0,
        traceparent=start.traceparent,
    )
    event = NewEvent("started", start.now, {"attempt": start.attempt, "worker": start.worker})
    return Step(running, (event,), opened=opened)


def ended(job: Job, ending: Ending) -> Step | None:
    """Return the job in its final state; None when the attempt (0: the waiting) it speaks of is over."""
    if not _speaks_of(job, ending.attempt):
        return None
    state = after(job.state, ending.change)
    final = job.evolve(
        state=state,
        finished_at=ending.now,
        expires_at=ending.expires_at,
        actual_units=ending.actual_units,
        charged_units=ending.charged_units,
        charge_reason=ending.charge_reason,
        failure=(ending.failure or _UNKNOWN_FAILURE) if state is JobState.FAILED else None,
        images=tuple(sorted(ending.images, key=lambda image: image.index)),
        stages=ending.stages,
        dead_at=ending.now if ending.dead and state is JobState.FAILED else None,
    )
    return Step(final, final_events(final, ending.now), closed=_attempt_end(ending))


def requeued(job: Job, requeue: Requeue) -> Step | None:
    """Return the job waiting again; None when the attempt is not the one that runs."""
    if requeue.attempt == 0 or not _speaks_of(job, requeue.attempt):
        return None
    waiting = job.evolve(
        state=after(job.state, Change.LOSE),
        counted_attempts=job.counted_attempts - (0 if requeue.counted else 1),
        worker=WorkerId(""),
        queued_at=requeue.now,
        not_before=requeue.not_before,
    )
    closed = AttemptEnd(requeue.attempt, requeue.outcome, requeue.reason, requeue.now, requeue.gpu_ms)
    return Step(waiting, (NewEvent("queued", requeue.now, {}),), closed=closed)


def marked(record: AttemptRecord, mark: Mark) -> AttemptRecord | None:
    """Return the attempt with its checkpoint; None when it does not run any more or is as far already."""
    if record.outcome != RUNNING_OUTCOME or mark.step <= record.checkpoint_step:
        return None
    return dataclasses.replace(record, checkpoint_ref=mark.ref, checkpoint_step=mark.step)


def cancel_requested(job: Job) -> Job:
    """Return an open job marked for cancelling; ended ones as they are."""
    return job.evolve(cancel_requested=True) if job.open else job


def final_events(job: Job, now: float) -> tuple[NewEvent, ...]:
    """Return the events of a job that has just come to its final state: its pictures, then how it ended."""
    images = [dataclasses.asdict(image) for image in job.images]
    pictures = [NewEvent("image", now, {"image": image, "expires_at": job.expires_at}) for image in images]
    payload: dict[str, Any] = {"cost": _cost(job)}
    if job.state is JobState.EXPIRED:
        payload["waited_s"] = now - job.created_at
    if job.state in (JobState.SUCCEEDED, JobState.FAILED):
        payload |= {"images": images, "expires_at": job.expires_at}
    if job.failure is not None:
        failure = job.failure
        payload |= {"reason": failure.reason, "message": failure.message, "metadata": dict(failure.metadata)}
    return (*pictures, NewEvent(FINAL_KINDS[job.state], now, payload))


def forgotten(job: Job) -> Job:
    """Return an ended job without what its owner wrote and drew; numbers stay. Raises IllegalChange when open."""
    if job.open:
        raise IllegalChange(f"a job that is {job.state.value} cannot be deleted")
    spec = dataclasses.replace(job.spec, prompt="", negative_prompt="", labels={}, webhook=None)
    return job.evolve(spec=spec, request_id="", request_digest="", images=(), dead_at=None)


def _speaks_of(job: Job, attempt: int) -> bool:
    if attempt == 0:
        return job.state is JobState.QUEUED
    return job.state is JobState.RUNNING and job.attempt == attempt


def _attempt_end(ending: Ending) -> AttemptEnd | None:
    if ending.attempt == 0:
        return None
    outcome = ending.outcome or _OUTCOMES[ending.change]
    reason = ending.failure.reason if ending.failure else ""
    return AttemptEnd(ending.attempt, outcome, reason, ending.now, ending.gpu_ms)


def _cost(job: Job) -> dict[str, Any]:
    return {
        "estimated_units": job.estimated_units,
        "actual_units": job.actual_units,
        "charged_units": job.charged_units,
        "reason": job.charge_reason,
    }
