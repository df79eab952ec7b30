"""What reuse makes of a job: answered at once, joined to a run, or taken along by the end of that run. Pure.

    finished job with the same key, pictures good for MARGIN_S more   HIT      SUCCEEDED at once
    open job with the same key that may be joined                     JOINED   waits for it, never dispatched
    anything else                                                     MISS     drawn

A joiner ends with its run: with its pictures, or with a failure that the request itself is to blame for. When the run
ends in any other way (cancelled, expired, failed by the platform), the joiner is a waiting job like others again, or
joins the next run. It pays nothing unless it takes a run over: then it is the runner.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.scheduler.job import Change, Job, JobState, OutboxMessage, after
from services.scheduler.settlement import charging
from services.scheduler.settlement.charging import Charge
from services.scheduler.storage.changes import NewEvent, Step, final_events

MARGIN_S = 600.0  # pictures that are removed sooner answer nobody: there must be time to fetch them
MISS, HIT, JOINED = "MISS", "HIT", "JOINED"
REASON = "answered from the cache"
# The request is to blame, so that another run of it would end alike.
_SHARED_FAILURES = frozenset({"INVALID_REQUEST", *charging.BLOCKED_CAUSES})


@dataclass(frozen=True, slots=True)
class Terms:
    """A job may be answered by another's pictures, which are then kept until `expires_at` at least."""

    now: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Written:
    """A step with the messages that are committed with it."""

    step: Step
    outbox: tuple[OutboxMessage, ...] = ()


def waits_for_a_run(job: Job) -> bool:
    """Return whether a job is a joiner that has not ended."""
    return job.state is JobState.QUEUED and job.cache == JOINED


def can_answer(source: Job, job: Job) -> bool:
    """Return whether a drawn job's pictures are those of `job`; whether they are still there is another question."""
    return (
        source.state is JobState.SUCCEEDED
        and source.cache == MISS
        and bool(source.images)
        and _draws_the_same(source, job)
    )


def run_to_join(runs: Iterable[Job], job: Job) -> Job | None:
    """Return the first run that `job` may wait for.

    One that runs already may be joined by everybody: nobody would be faster alone. One that waits in the order
    stands there by the share and the priority of its owner, so only as urgent a job of the same tenant joins it.
    """
    return next((run for run in runs if run.id != job.id and _draws_the_same(run, job) and _as_soon(run, job)), None)


def answered(job: Job, source: Job, terms: Terms) -> Written:
    """Return a new job as it is when pictures that are there answer it."""
    done = _answered(job, source, HIT, terms.now, max(terms.expires_at, source.expires_at or 0.0))
    queued = NewEvent("queued", job.created_at, {})
    return Written(Step(done, (queued, *final_events(done, terms.now))), (_settlement(done, Change.REUSE),))


def joined(job: Job, run: Job) -> Job:
    """Return a job that waits for a run."""
    return job.evolve(cache=JOINED, drawn_by=run.id)


def released(job: Job, runs: Iterable[Job], now: float) -> Step:
    """Return a joiner without its run: it joins another one, or waits like others, in the place it would have had."""
    alone = job.evolve(cache=MISS, drawn_by="")
    run = run_to_join(runs, alone)
    if run is not None:
        return Step(joined(job, run), ())
    return Step(alone, (NewEvent("queued", now, {}),))


def followed(job: Job, run: Job | None, now: float) -> Written | None:
    """Return how a joiner ends with its run; None when the run brought nothing that holds for the joiner."""
    if run is None or run.model_version != job.model_version:  # a fallback may have taken the place of the model
        return None
    if run.state is JobState.SUCCEEDED and run.images:
        done = _answered(job, run, JOINED, now, run.expires_at)
        return Written(Step(done, final_events(done, now)), (_settlement(done, Change.REUSE),))
    if run.state is JobState.FAILED and run.failure is not None and run.failure.reason in _SHARED_FAILURES:
        failure = replace(run.failure, metadata={**run.failure.metadata, "charged": "false"})
        failed = _answered(job, run, JOINED, now, run.expires_at).evolve(
            state=after(job.state, Change.FAIL), failure=failure
        )
        return Written(Step(failed, final_events(failed, now)), (_settlement(failed, Change.FAIL),))
    return None


def _answered(job: Job, source: Job, cache: str, now: float, expires_at: float | None) -> Job:
    return job.evolve(
        state=after(job.state, Change.REUSE),
        queued_at=job.queued_at or job.created_at,
        finished_at=now,
        expires_at=expires_at,
        charge_reason=REASON,
        images=source.images,
        cache=cache,
        cache_key="",  # the drawn job is found by it
        drawn_by=source.id,
    )


def _draws_the_same(source: Job, job: Job) -> bool:
    """A fallback may have taken the place of the model, so the key alone does not tell."""
    return bool(job.cache_key) and (source.cache_key, source.model_version) == (job.cache_key, job.model_version)


def _as_soon(run: Job, job: Job) -> bool:
    if not run.open or run.cancel_requested or run.cache == JOINED:
        return False
    if run.state is JobState.RUNNING:
        return True
    same_place = (run.tenant_id, run.tier) == (job.tenant_id, job.tier)
    return same_place and run.spec.priority >= job.spec.priority


def _settlement(job: Job, change: Change) -> OutboxMessage:
    reason = job.failure.reason if job.failure else ""
    why = charging.BLOCKED_CAUSES.get(reason) or (charging.CACHED if job.cache == HIT else charging.JOINED)
    return charging.settlement(job, change, Charge(0.0, 0.0, REASON), why=why)
