"""What the end of an attempt means for its job: the change that is committed. Pure but for the jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from services.scheduler.attempts.outcome import Attempt, Close, Done, Heard, Stopped, TimedOut
from services.scheduler.job import Failure, Job
from services.scheduler.retries import retry
from services.scheduler.retries.retry import Again, Fault, Mishap
from services.scheduler.settlement import endings
from services.scheduler.storage.wishes import Ending, Requeue

_UNASKED = Mishap(Fault.TRANSIENT, "GENERATION_FAILED", "The worker stopped without being asked.")
_RECALLED = Mishap(Fault.DRAINING, "WORKER_DRAINING", "It was taken back from its worker.")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known beside the attempt's own end. `refunded` of its counted attempts were the fault of their workers."""

    epoch: int
    now: float
    advanced: bool = False  # it left a checkpoint that is further than all before it
    recalled: bool = False  # its worker was told to stop because it is to be empty
    worker_at_fault: bool = False  # its worker is in quarantine
    refunded: int = 0
    substitute: str = ""  # the pinned model that may take over when its own cannot draw it


@dataclass(frozen=True, slots=True)
class Verdict:
    """The change to commit, and what the mishap was, if it was one."""

    change: Ending | Requeue
    mishap: Mishap | None = None
    again: Again | None = None
    substitute: str = ""  # the pinned model that takes over

    @property
    def reason(self) -> str:
        """Why, machine-readable; empty when it went well."""
        if isinstance(self.change, Requeue):
            return self.change.reason
        return self.change.failure.reason if self.change.failure else ""


class Judge:
    """Decides by the tables of `retry` and `endings`."""

    def __init__(self, *, result_life_s: float, jitter: Callable[[], float]) -> None:
        self._result_life_s = result_life_s
        self._jitter = jitter

    def decide(self, attempt: Attempt, close: Close, heard: Heard, known: Circumstances) -> Verdict:
        """Return what becomes of the job."""
        job, brought, epoch, now = attempt.job, heard.brought(), known.epoch, known.now
        if isinstance(close, Done):
            life_s = self._result_life_s
            return Verdict(endings.succeeded(job, brought, epoch=epoch, now=now, result_life_s=life_s))
        if attempt.stop.is_set():
            if isinstance(close, Mishap) and close.fault is not Fault.BLOCKED:  # no fault of the platform is charged
                brought = replace(brought, gpu_ms=0.0)
            return Verdict(endings.cancelled(job, brought, epoch=epoch, now=now))
        if isinstance(close, TimedOut):
            return Verdict(endings.failed(job, retry.timed_out(close.limit_s), brought, epoch=epoch, now=now))
        if isinstance(close, Stopped):
            close = _RECALLED if known.recalled else _UNASKED
        return self._of_mishap(attempt, close, heard, known)

    def _of_mishap(self, attempt: Attempt, mishap: Mishap, heard: Heard, known: Circumstances) -> Verdict:
        job = attempt.job
        decision = retry.decide(
            mishap,
            counted=max(0, job.counted_attempts - known.refunded),
            uncounted=job.attempt - job.fresh_after - job.counted_attempts,
            out_of_memory_before=attempt.out_of_memory_before,
            jitter=self._jitter(),
            advanced=known.advanced,
            worker_at_fault=known.worker_at_fault,
        )
        substitute = known.substitute if _model_cannot(job, mishap, decision) else ""
        if substitute:
            decision = Again("lost", counted=True)
        if isinstance(decision, Failure):
            return Verdict(self._failed(job, mishap, decision, heard, known), mishap)
        waits_until = known.now + decision.wait_s if decision.wait_s else 0.0
        requeue = Requeue(
            job_id=job.id,
            attempt=job.attempt,
            epoch=known.epoch,
            now=known.now,
            outcome=decision.outcome,
            reason=mishap.reason or mishap.fault.value,
            not_before=waits_until,
            counted=decision.counted,
            gpu_ms=heard.gpu_ms,
        )
        return Verdict(requeue, mishap, decision, substitute)

    def _failed(self, job: Job, mishap: Mishap, failure: Failure, heard: Heard, known: Circumstances) -> Ending:
        brought, epoch, now, life_s = heard.brought(), known.epoch, known.now, self._result_life_s
        if mishap.fault is Fault.BLOCKED:
            return endings.blocked(job, failure, brought, epoch=epoch, now=now, result_life_s=life_s)
        dead = retry.dies_of(mishap.fault)
        if brought.images and dead:
            return endings.partly(job, failure, brought, epoch=epoch, now=now, result_life_s=life_s, dead=dead)
        return endings.failed(job, failure, brought, epoch=epoch, now=now, dead=dead)


def _model_cannot(job: Job, mishap: Mishap, decision: Again | Failure) -> bool:
    """Whether this model will not draw the job: it does not fit, or was not there for a second time."""
    if isinstance(decision, Failure):
        return mishap.fault is Fault.OUT_OF_MEMORY
    return mishap.fault is Fault.MODEL_UNAVAILABLE and job.attempt - job.fresh_after > 1
