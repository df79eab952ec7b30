"""The final states of a job as the store takes them, each with its charge and its settlement. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from libs.generation.attempt import ImageStored, StageDone
from services.scheduler.job import Change, Failure, Job, JobState
from services.scheduler.settlement.charging import CAP, OUTCOMES, cause, charge, settlement
from services.scheduler.storage.wishes import Ending


@dataclass(frozen=True, slots=True)
class Yield:
    """What an attempt has brought by the time it ends."""

    images: tuple[ImageStored, ...] = ()
    stages: tuple[StageDone, ...] = ()
    gpu_ms: float = 0.0
    worth: float = 1.0  # units of a millisecond of the device

    @property
    def units(self) -> float:
        """What was measured, in units."""
        return self.gpu_ms * self.worth


_NOTHING = Yield()
NOT_CHARGED = "Nothing was charged."


def succeeded(job: Job, brought: Yield, *, epoch: int, now: float, result_life_s: float) -> Ending:
    """Return the end of a job whose pictures are stored; they are kept for `result_life_s`."""
    return _ending(job, Change.SUCCEED, brought, epoch=epoch, now=now, expires_at=now + result_life_s)


def failed(
    job: Job, failure: Failure, brought: Yield = _NOTHING, *, epoch: int, now: float, dead: bool = False
) -> Ending:
    """Return the end of a job that is not tried again; `dead` when that is because its attempts are used up. Pictures it brought are not shown."""
    kept = replace(brought, images=())
    return replace(_ending(job, Change.FAIL, kept, epoch=epoch, now=now, failure=failure), dead=dead)


def partly(
    job: Job, failure: Failure, brought: Yield, *, epoch: int, now: float, result_life_s: float, dead: bool
) -> Ending:
    """Return the end of a job that failed after some of its pictures were stored: those are listed and charged."""
    count, message = len(brought.images), failure.message.replace(NOT_CHARGED, "").strip()
    told = f"{' '.join(message.split())} The {count} of {job.spec.images} pictures that were finished are listed and charged."
    worded = replace(failure, message=told, metadata={**failure.metadata, "charged": "true", "finished": str(count)})
    ending = _ending(job, Change.FAIL, brought, epoch=epoch, now=now, failure=worded, expires_at=now + result_life_s)
    return replace(ending, dead=dead)


def blocked(job: Job, failure: Failure, brought: Yield, *, epoch: int, now: float, result_life_s: float) -> Ending:
    """Return the end of a job with content that is not allowed.

    It has failed; pictures that may be shown are listed and kept for `result_life_s`, and what was drawn is charged.
    """
    told = replace(failure, metadata={**failure.metadata, "charged": "true" if brought.gpu_ms else "false"})
    expires_at = now + result_life_s if brought.images else None
    return _ending(job, Change.FAIL, brought, epoch=epoch, now=now, failure=told, expires_at=expires_at)


def cancelled(job: Job, brought: Yield = _NOTHING, *, epoch: int, now: float) -> Ending:
    """Return the end of a job that its owner withdrew, waiting or running."""
    kept = replace(brought, images=())
    return _ending(job, Change.CANCEL, kept, epoch=epoch, now=now)


def expired(job: Job, *, epoch: int, now: float) -> Ending:
    """Return the end of a job whose deadline passed while it waited."""
    return _ending(job, Change.EXPIRE, _NOTHING, epoch=epoch, now=now)


def expiry_failure(job: Job) -> Failure:
    """Return the error that readers of an expired job see."""
    waited_s = (job.finished_at or job.created_at) - job.created_at
    told = f"The deadline passed before the job started; it had waited {waited_s:.0f} s. Nothing was charged."
    return Failure("DEADLINE_BEFORE_START", told, {"waited_ms": f"{waited_s * 1000:.0f}", "charged": "false"})


def _ending(
    job: Job,
    change: Change,
    brought: Yield,
    *,
    epoch: int,
    now: float,
    failure: Failure | None = None,
    expires_at: float | None = None,
) -> Ending:
    most, reason = 1.0 if job.downgraded_from else CAP, failure.reason if failure else ""
    finished = len(brought.images) / job.spec.images
    charged = charge(change, job.estimated_units, brought.units, reason=reason, most=most, finished=finished)
    why = cause(change, brought.gpu_ms, reason=reason, finished=finished)
    message = settlement(job, change, charged, why=why, images=len(brought.images), gpu_ms=brought.gpu_ms)
    return Ending(
        job_id=job.id,
        attempt=job.attempt if job.state is JobState.RUNNING else 0,
        epoch=epoch,
        change=change,
        now=now,
        outcome=OUTCOMES[change],
        images=brought.images,
        stages=brought.stages,
        failure=failure,
        gpu_ms=brought.gpu_ms,
        actual_units=charged.actual_units,
        charged_units=charged.charged_units,
        charge_reason=charged.reason,
        expires_at=expires_at,
        outbox=(message,),
    )
