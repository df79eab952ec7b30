"""What came of an attempt, from what its worker said and what it did not say. Pure."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from opentelemetry.trace import Span

from libs import errors
from libs.clients.modelserver import (
    AttemptDone,
    AttemptEvent,
    AttemptFailed,
    ModelServer,
    Preview,
    Progress,
    WorkerLost,
    WorkerRefused,
)
from libs.fleet.record import WorkerRecord
from libs.generation.attempt import Checkpointed, FailureKind, ImageStored, StageDone
from services.scheduler.attempts.run_limit import RunClock
from services.scheduler.job import Job
from services.scheduler.retries.retry import RESTARTED, Fault, Mishap
from services.scheduler.settlement.endings import Yield
from services.scheduler.storage.store import Deposed


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that was committed and goes to its worker, at `began_at`. `stop` is set when its owner wants that.

    It goes on from the checkpoint `resume_from`, if there is one. `attach`: it runs there already, since an earlier
    leader, and is only followed.
    """

    job: Job
    worker: WorkerRecord
    server: ModelServer
    epoch: int  # of the leader that follows it
    stop: asyncio.Event
    span: Span
    began_at: float
    out_of_memory_before: int = 0  # attempts of the job that ended so
    resume_from: str = ""
    attach: bool = False
    run: RunClock = field(default_factory=RunClock)

    @property
    def waited(self) -> StageDone:
        """The time the job waited for this attempt."""
        return StageDone("queue", self.job.queued_at, self.began_at)


@dataclass(frozen=True, slots=True)
class Done:
    """Its pictures are stored."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The worker stopped it because it was told to."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """It ran longer than it may."""

    limit_s: float


Close = Done | Stopped | TimedOut | Mishap


@dataclass(slots=True)
class Heard:
    """What the worker has said so far. Whoever attaches again is told again what lasts."""

    images: dict[int, ImageStored] = field(default_factory=dict)
    stages: list[StageDone] = field(default_factory=list)
    gpu_ms: float = 0.0
    worth: float = 1.0  # units of a millisecond of the worker's device
    drew: asyncio.Event = field(default_factory=asyncio.Event)  # it told progress
    events: int = 0

    @property
    def units(self) -> float:
        """What was measured, in units."""
        return self.gpu_ms * self.worth

    def take(self, event: AttemptEvent, job: Job) -> Close | None:
        """Take an event in; returns how the attempt ended when it was the last one."""
        self.events += 1
        match event:
            case StageDone():
                self.stages += [] if event in self.stages else [event]
            case ImageStored():
                self.images[event.index] = event
            case AttemptDone():
                self.gpu_ms = event.gpu_ms
                return self._done(job)
            case AttemptFailed():
                self.gpu_ms = event.gpu_ms
                return _failed(event)
            case Progress():
                self.drew.set()
            case Preview() | Checkpointed():
                pass  # for the readers, and for the next attempt
        return None

    def brought(self) -> Yield:
        """Return what an ending of the job takes from it."""
        pictures = tuple(self.images[index] for index in sorted(self.images))
        return Yield(pictures, tuple(self.stages), self.gpu_ms, self.worth)

    def _done(self, job: Job) -> Close:
        if sorted(self.images) == list(range(job.spec.images)):
            return Done()
        told = f"The worker said done after {len(self.images)} of {job.spec.images} pictures."
        return Mishap(Fault.TRANSIENT, "GENERATION_FAILED", told)


def mishap_of(error: errors.DarkroomError, attempt: Attempt) -> Mishap:
    """Return what an Execute that failed as a call means. Raises Deposed when the worker obeys a newer leader."""
    if error.reason == "ATTEMPT_UNKNOWN":  # of an earlier leader: it may never have been sent
        told = "The worker does not know the attempt any more."
        lost = Mishap(Fault.WORKER_LOST, "WORKER_LOST", told)
        return Mishap(Fault.RESTARTED, RESTARTED, told) if attempt.attach else lost
    if isinstance(error, WorkerLost):
        return Mishap(Fault.WORKER_LOST, error.reason, error.message)
    if isinstance(error, WorkerRefused):
        return Mishap(Fault.REFUSED, error.reason, error.message)
    if error.reason == "EPOCH_STALE":
        raise Deposed(error.message)
    if isinstance(error, errors.InvalidRequest):
        return Mishap(Fault.INVALID, error.reason, error.message)
    if isinstance(error, errors.NotFound | errors.PreconditionFailed):
        return Mishap(Fault.MODEL_UNAVAILABLE, error.reason, error.message)
    return Mishap(Fault.TRANSIENT, error.reason, error.message)


def _failed(event: AttemptFailed) -> Close:
    if event.kind is FailureKind.CANCELLED:
        return Stopped()
    return Mishap(Fault[event.kind.name], event.reason, event.message)
