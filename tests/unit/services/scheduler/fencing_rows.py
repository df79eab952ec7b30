"""A job of the fencing model in the store: what the real changes make of it."""

from __future__ import annotations

import functools
from typing import NamedTuple

from libs.ids import JobId, WorkerId
from services.scheduler.job import Change, Failure, Job, JobState
from services.scheduler.retries import retry
from services.scheduler.retries.retry import Again, Fault, Mishap
from services.scheduler.storage import changes
from services.scheduler.storage.wishes import Ending, Requeue, Start
from tests.unit.services.scheduler import fakes

_TEMPLATE = fakes.job(0.0, id=JobId("job"))


class Row(NamedTuple):
    """What the protocol needs to know; `result_of` is an attempt, `ends` how often it came to a final state."""

    state: JobState
    attempt: int = 0
    counted: int = 0
    worker: str = ""
    result_of: int = 0
    ends: int = 0


ACCEPTED = Row(JobState.QUEUED, counted=1)  # an attempt behind it, so that two faults lead to the dead letter


@functools.cache
def started(row: Row, attempt: int, worker: int, epoch: int) -> Row | None:
    """Return the row with attempt `attempt` on a worker."""
    start = Start(_TEMPLATE.id, attempt, WorkerId(str(worker)), epoch, 1.0)
    return _after(row, changes.started(_job(row), start))


@functools.cache
def succeeded(row: Row, attempt: int) -> Row | None:
    """Return the row with the result of an attempt."""
    after = _after(row, changes.ended(_job(row), Ending(_TEMPLATE.id, attempt, 1, Change.SUCCEED, 1.0)))
    return after._replace(result_of=attempt) if after else None


@functools.cache
def failed(row: Row, attempt: int) -> Row | None:
    """Return the row given up for good with an attempt."""
    return _after(row, changes.ended(_job(row), Ending(_TEMPLATE.id, attempt, 1, Change.FAIL, 1.0)))


@functools.cache
def given_back(row: Row, attempt: int, counted: bool) -> Row | None:
    """Return the row waiting again."""
    requeue = Requeue(_TEMPLATE.id, attempt, 1, 1.0, "lost", "WORKER_LOST", counted=counted)
    return _after(row, changes.requeued(_job(row), requeue))


@functools.cache
def decided(counted: int) -> Again | Failure:
    """Return what becomes of a job whose attempt was lost."""
    mishap = Mishap(Fault.WORKER_LOST, "WORKER_LOST")
    return retry.decide(mishap, counted=counted, out_of_memory_before=False, jitter=0.0)


def _job(row: Row) -> Job:
    return _TEMPLATE.evolve(
        state=row.state, attempt=row.attempt, counted_attempts=row.counted, worker=WorkerId(row.worker)
    )


def _after(row: Row, step: changes.Step | None) -> Row | None:
    if step is None:
        return None
    job = step.job
    ends = row.ends + (not job.open)
    return Row(job.state, job.attempt, job.counted_attempts, job.worker, row.result_of, ends)
