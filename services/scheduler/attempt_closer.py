"""Commits what came of an attempt, exactly once: the job ends, or it waits again."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace

from libs.clock import Clock
from services.scheduler import checkpoints, endings, retry
from services.scheduler.attempt_outcome import Attempt, Close, Done, Heard, Stopped, TimedOut
from services.scheduler.instruments import Instruments
from services.scheduler.job import Failure, Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.persistence import persistently
from services.scheduler.reconciler import Reconciler
from services.scheduler.retry import Fault, Mishap
from services.scheduler.store import Ending, JobStore, Requeue

logger = logging.getLogger(__name__)


class AttemptCloser:
    """Closes attempts. While the database is away it holds the outcome and tries again."""

    def __init__(
        self,
        store: JobStore,
        jobs: OpenJobs,
        reconciler: Reconciler,
        instruments: Instruments,
        clock: Clock,
        *,
        result_life_s: float,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._reconciler = reconciler
        self._instruments = instruments
        self._clock = clock
        self._result_life_s = result_life_s
        self._jitter = jitter

    async def close(self, attempt: Attempt, close: Close, heard: Heard) -> None:
        """Commit the outcome and tell the memory. Raises Deposed."""
        advanced = isinstance(close, Mishap) and await self._advanced(attempt.job)
        if heard.drew.is_set() or advanced:
            self._jobs.drew(attempt.job.id)
        verdict = self._verdict(attempt, close, heard, advanced=advanced)
        outcome, reason = verdict.outcome, _reason(verdict)
        logger.info("attempt over", extra=_fields(attempt) | {"outcome": outcome, "reason": reason})
        self._jobs.ordering.settled(attempt.job.id, heard.gpu_ms)
        if isinstance(verdict, Ending):
            after = await persistently(self._clock, lambda: self._store.end(verdict))
        else:
            after = await persistently(self._clock, lambda: self._store.requeue(verdict))
        if after is None:  # our own commit whose answer was lost, or the job is no more: the store knows
            await self._reconciler.resolve(attempt.job.id)
        elif after.open:
            await self._reconciler.waits(after)
        else:
            self._jobs.ended(after)
        self._instruments.attempt_ended(outcome, reason)

    async def _advanced(self, job: Job) -> bool:
        return checkpoints.advanced(await persistently(self._clock, lambda: self._store.attempts(job.id)))

    def _verdict(self, attempt: Attempt, close: Close, heard: Heard, *, advanced: bool) -> Ending | Requeue:
        job = attempt.job
        now, epoch, brought = self._clock.now(), self._reconciler.epoch, heard.brought()
        if isinstance(close, Done):
            return endings.succeeded(job, brought, epoch=epoch, now=now, result_life_s=self._result_life_s)
        if attempt.stop.is_set():
            if isinstance(close, Mishap) and close.fault is not Fault.BLOCKED:  # no fault of the platform is charged
                brought = replace(brought, gpu_ms=0.0)
            return endings.cancelled(job, brought, epoch=epoch, now=now)
        if isinstance(close, TimedOut):
            return endings.failed(job, retry.timed_out(close.limit_s), brought, epoch=epoch, now=now)
        if isinstance(close, Stopped):
            close = Mishap(Fault.TRANSIENT, "GENERATION_FAILED", "The worker stopped without being asked.")
        decision = retry.decide(
            close,
            counted=job.counted_attempts,
            uncounted=job.attempt - job.counted_attempts,
            out_of_memory_before=attempt.out_of_memory_before,
            jitter=self._jitter(),
            advanced=advanced,
        )
        if isinstance(decision, Failure):
            blocked = functools.partial(endings.blocked, result_life_s=self._result_life_s)
            end = blocked if close.fault is Fault.BLOCKED else endings.failed
            return end(job, decision, brought, epoch=epoch, now=now)
        if decision.elsewhere:
            self._jobs.avoid(job.id, attempt.worker.worker_id)
        return Requeue(
            job_id=job.id,
            attempt=job.attempt,
            epoch=epoch,
            now=now,
            outcome=decision.outcome,
            reason=close.reason or close.fault.value,
            not_before=now + decision.wait_s if decision.wait_s else 0.0,
            counted=decision.counted,
            gpu_ms=heard.gpu_ms,
        )


def _reason(verdict: Ending | Requeue) -> str:
    if isinstance(verdict, Requeue):
        return verdict.reason
    return verdict.failure.reason if verdict.failure else ""


def _fields(attempt: Attempt) -> dict[str, object]:
    job = attempt.job
    return {
        "job_id": job.id,
        "tenant_id": job.tenant_id,
        "worker_id": attempt.worker.worker_id,
        "attempt": job.attempt,
    }
