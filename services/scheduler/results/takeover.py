"""What it makes of two jobs when the owner of a run goes and a joiner takes it over. Pure.

The run goes on where it is, under the name that its worker knows. To the store it is the heir's first attempt from then
on, begun when it really was, and its end is the heir's: with its pictures and its bill.
"""

from __future__ import annotations

from dataclasses import replace

from services.scheduler.job import AttemptRecord, Change, Job, JobState, OutboxMessage
from services.scheduler.results import reuse
from services.scheduler.results.store import REMOVAL_MARGIN_S, HandOver
from services.scheduler.storage import changes
from services.scheduler.storage.changes import Step
from services.scheduler.storage.wishes import Ending, Requeue, Start

REASON = "it was cancelled, and its run goes on for another job"
Written = tuple[Job, Step, tuple[OutboxMessage, ...]]


def handed_over(
    job: Job | None, heir: Job | None, attempt: AttemptRecord | None, order: HandOver
) -> tuple[Written, Written] | None:
    """Return what becomes of both; None when the job does not run or the heir does not wait for it.

    `attempt` is the one of the job that runs.
    """
    if job is None or heir is None or attempt is None or not reuse.waits_for_a_run(heir) or heir.drawn_by != job.id:
        return None
    if job.state is not JobState.RUNNING or job.attempt != order.attempt or job.cancel_requested:
        return None
    ending = Ending(job.id, job.attempt, order.epoch, Change.CANCEL, order.now, charge_reason=order.charge_reason)
    over = changes.ended(job, ending)
    alone = heir.evolve(cache=reuse.MISS, drawn_by="", cache_key=job.cache_key)
    start = Start(heir.id, heir.attempt + 1, job.worker, order.epoch, order.now, heir.traceparent)
    begun = changes.started(alone, start)
    if over is None or begun is None or begun.opened is None:
        return None
    # What it found stored it may have found when it really began: a sweep since then counts.
    opened = replace(begun.opened, started_at=attempt.started_at)
    run_of, run_attempt = job.run
    goes_on = begun.job.evolve(run_of=run_of, run_attempt=run_attempt)
    return (job, over, order.outbox), (heir, replace(begun, job=goes_on, opened=opened), ())


def swept_away(ending: Ending) -> Requeue:
    """Return the way back into the queue for a job whose pictures were removed while they were drawn."""
    return Requeue(
        job_id=ending.job_id,
        attempt=ending.attempt,
        epoch=ending.epoch,
        now=ending.now,
        outcome="lost",
        reason="PICTURES_SWEPT",
        not_before=ending.now + 2 * REMOVAL_MARGIN_S,
        counted=False,
        gpu_ms=ending.gpu_ms,
    )
