"""What the store is asked to change, and what it answers to a new job."""

from __future__ import annotations

from dataclasses import dataclass

from libs.generation.attempt import ImageStored, StageDone
from libs.ids import JobId, WorkerId
from services.scheduler.job import Change, Failure, Job, OutboxMessage


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job that stands after `accept`; `existing` when its idempotency key was used before."""

    job: Job
    existing: bool


@dataclass(frozen=True, slots=True)
class Start:
    """An attempt to begin: number `attempt` of the job, on `worker`. `cache_key`: that of its pictures, if told."""

    job_id: JobId
    attempt: int
    worker: WorkerId
    epoch: int
    now: float
    traceparent: str = ""
    cache_key: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt, or a waiting job (attempt 0), comes to its final state.

    `change` is SUCCEED, FAIL, CANCEL or EXPIRE. `outbox` is committed with it.
    """

    job_id: JobId
    attempt: int
    epoch: int
    change: Change
    now: float
    outcome: str = ""  # of the attempt row: succeeded, failed or cancelled
    images: tuple[ImageStored, ...] = ()
    stages: tuple[StageDone, ...] = ()
    failure: Failure | None = None
    gpu_ms: float = 0.0
    actual_units: float = 0.0
    charged_units: float = 0.0
    charge_reason: str = ""
    expires_at: float | None = None
    dead: bool = False  # it failed because its attempts are used up: it goes to the dead letters
    outbox: tuple[OutboxMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Requeue:
    """An attempt that ended without an answer: the job waits again, not before `not_before`."""

    job_id: JobId
    attempt: int
    epoch: int
    now: float
    outcome: str  # lost or refused
    reason: str
    not_before: float = 0.0
    counted: bool = True
    gpu_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Revival:
    """An operator queues a dead letter again. `outbox` reserves for it what its failure gave back."""

    job_id: JobId
    epoch: int
    now: float
    outbox: tuple[OutboxMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Dismissal:
    """An operator wants no more to do with a dead letter; its owner still sees the failed job."""

    job_id: JobId
    epoch: int
    now: float
    outbox: tuple[OutboxMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Downgrade:
    """A waiting job is drawn with `model_version` instead."""

    job_id: JobId
    epoch: int
    now: float
    model_version: str
    outbox: tuple[OutboxMessage, ...] = ()


Alteration = Revival | Dismissal | Downgrade


@dataclass(frozen=True, slots=True)
class Mark:
    """A running attempt can be gone on from `ref`, a checkpoint of `step` steps."""

    job_id: JobId
    attempt: int
    epoch: int
    ref: str
    step: int
