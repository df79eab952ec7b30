"""Commits what came of an attempt, exactly once: the job ends, or it waits again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from libs.clock import Clock
from services.scheduler.attempts import checkpoints
from services.scheduler.attempts.outcome import Attempt, Close, Heard
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.instruments import Instruments
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.results.store import PicturesSwept
from services.scheduler.results.takeover import swept_away
from services.scheduler.retries.retry import Again, Mishap
from services.scheduler.retries.substitution import Substitution
from services.scheduler.retries.verdicts import Circumstances, Judge
from services.scheduler.retries.ward import Ward
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.wishes import Ending

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Aides:
    """Whom it asks: what an end means, whether the worker is at fault, who may take over."""

    judge: Judge
    ward: Ward
    substitution: Substitution


class AttemptCloser:
    """Closes attempts. While the database is away it holds the outcome and tries again."""

    def __init__(
        self,
        store: JobStore,
        jobs: OpenJobs,
        reconciler: Reconciler,
        aides: Aides,
        instruments: Instruments,
        clock: Clock,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._reconciler = reconciler
        self._ward, self._judge, self._substitution = aides.ward, aides.judge, aides.substitution
        self._instruments = instruments
        self._clock = clock

    async def close(self, attempt: Attempt, close: Close, heard: Heard) -> None:
        """Commit the outcome, for who owns the run now, and tell the memory. Raises Deposed."""
        self._jobs.ordering.settled(attempt.job.id, heard.units)  # for whom it was begun, whoever has it now
        mine = self._owned(attempt)
        await self._close(mine, close, heard)
        heir = self._owned(attempt)
        if heir.job.id not in (mine.job.id, attempt.job.id):  # it was handed over while its end was being written
            await self._close(heir, close, heard)

    async def _close(self, attempt: Attempt, close: Close, heard: Heard) -> None:
        advanced = isinstance(close, Mishap) and await self._advanced(attempt.job)
        if heard.drew.is_set() or advanced:
            self._jobs.drew(attempt.job.id)
        at_fault = await self._ward.attempt_over(attempt, close)
        known = self._circumstances(attempt, advanced=advanced, worker_at_fault=at_fault)
        verdict = self._judge.decide(attempt, close, heard, known)
        change, outcome, reason = verdict.change, verdict.change.outcome, verdict.reason
        logger.info("attempt over", extra=_fields(attempt) | {"outcome": outcome, "reason": reason})
        if verdict.again is not None:
            self._prepare_next(attempt, verdict.again)
        if isinstance(change, Ending):
            after = await self._end(change)
        else:
            after = await persistently(self._clock, lambda: self._store.requeue(change))
        if after is None:  # our own commit whose answer was lost, or the job is no more: the store knows
            await self._reconciler.resolve(attempt.job.id)
        elif verdict.substitute and after.open and not after.cancel_requested:
            await self._substitution.replace(after, verdict.substitute)
        elif after.open:
            await self._reconciler.waits(after)
        else:
            self._jobs.ended(after)
        self._instruments.attempt_ended(outcome, reason)

    async def _end(self, ending: Ending) -> Job | None:
        try:
            return await persistently(self._clock, lambda: self._store.end(ending))
        except PicturesSwept:
            again = swept_away(ending)
            logger.info("a picture was swept while it was drawn again", extra={"job_id": ending.job_id})
            return await persistently(self._clock, lambda: self._store.requeue(again))

    def _owned(self, attempt: Attempt) -> Attempt:
        """Return the attempt as that of the job which took it over, if one did."""
        job = self._jobs.get(self._jobs.joined.runner(attempt.job.id))
        return attempt if job is None or job.id == attempt.job.id else replace(attempt, job=job)

    def _circumstances(self, attempt: Attempt, *, advanced: bool, worker_at_fault: bool) -> Circumstances:
        job_id = attempt.job.id
        return Circumstances(
            epoch=self._reconciler.epoch,
            now=self._clock.now(),
            advanced=advanced,
            recalled=self._jobs.recalled(job_id),
            worker_at_fault=worker_at_fault,
            refunded=self._ward.refunds(job_id),
            substitute=self._substitution.model_for(attempt.job),
        )

    def _prepare_next(self, attempt: Attempt, again: Again) -> None:
        job_id, worker = attempt.job.id, attempt.worker
        if again.elsewhere:
            self._jobs.avoid(job_id, worker.worker_id)
        for other in self._ward.no_roomier(worker) if again.roomier else ():
            self._jobs.avoid(job_id, other)
        if again.alone:
            self._jobs.leave_alone(job_id)

    async def _advanced(self, job: Job) -> bool:
        return checkpoints.advanced(await persistently(self._clock, lambda: self._store.attempts(job.id)))


def _fields(attempt: Attempt) -> dict[str, object]:
    job = attempt.job
    return {
        "job_id": job.id,
        "tenant_id": job.tenant_id,
        "worker_id": attempt.worker.worker_id,
        "attempt": job.attempt,
    }
