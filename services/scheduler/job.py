"""A job and its life. Everything that affects a job's state stands in this file; no I/O, `now` is an argument.

QUEUED ──start──▶ RUNNING ──succeed──▶ SUCCEEDED
  ▲  │               │ ├────fail─────▶ FAILED
  │  ├──expire──▶ EXPIRED
  │  ├──fail────▶ FAILED   └──cancel──▶ CANCELLED
  │  └──cancel──▶ CANCELLED
  └──────lose────────┘       (worker lost, refused or drained: queued again)

A FAILED job whose attempts were used up is a dead letter; `revive` brings it back to QUEUED.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from libs.fleet.shapes import Shape
from libs.generation.attempt import ImageStored, StageDone
from libs.generation.spec import GenerationSpec
from libs.ids import JobId, KeyId, TenantId, WorkerId


class JobState(enum.Enum):
    """Where a job is in its life; values are the names of the public enum."""

    QUEUED = "QUEUED"  # durable, waiting for a worker
    RUNNING = "RUNNING"  # one attempt is on a worker
    SUCCEEDED = "SUCCEEDED"  # pictures stored
    FAILED = "FAILED"  # attempts used up, or it can never succeed
    CANCELLED = "CANCELLED"  # asked for by its owner
    EXPIRED = "EXPIRED"  # deadline passed before it started


class Change(enum.Enum):
    """What can happen to a job."""

    START = "start"  # an attempt was handed to a worker
    SUCCEED = "succeed"  # the attempt delivered its pictures
    FAIL = "fail"  # no further attempt
    LOSE = "lose"  # the attempt is over without an answer; the job waits again
    CANCEL = "cancel"  # its owner withdrew it
    EXPIRE = "expire"  # its deadline passed while it waited
    REUSE = "reuse"  # pictures that another job drew answer it
    REVIVE = "revive"  # an operator queued a dead letter again


TRANSITIONS: Mapping[tuple[JobState, Change], JobState] = MappingProxyType(
    {
        (JobState.QUEUED, Change.START): JobState.RUNNING,
        (JobState.QUEUED, Change.CANCEL): JobState.CANCELLED,
        (JobState.QUEUED, Change.EXPIRE): JobState.EXPIRED,
        (JobState.QUEUED, Change.FAIL): JobState.FAILED,
        (JobState.QUEUED, Change.REUSE): JobState.SUCCEEDED,
        (JobState.RUNNING, Change.SUCCEED): JobState.SUCCEEDED,
        (JobState.RUNNING, Change.FAIL): JobState.FAILED,
        (JobState.RUNNING, Change.CANCEL): JobState.CANCELLED,
        (JobState.RUNNING, Change.LOSE): JobState.QUEUED,
        (JobState.FAILED, Change.REVIVE): JobState.QUEUED,
    }
)
OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)
Run = tuple[JobId, int]  # what a worker calls a run: the job it was begun for, and the number of that attempt


class IllegalChange(Exception):
    """A change that the state does not allow; always our own fault."""


def after(state: JobState, change: Change) -> JobState:
    """Return the state after `change`; raises IllegalChange when the table has no such row."""
    try:
        return TRANSITIONS[state, change]
    except KeyError:
        raise IllegalChange(f"{change.value} does not apply to a job that is {state.value}") from None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed: a reason of the table in libs.rpc.status, words for its owner, details."""

    reason: str
    message: str
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try on one worker. `traceparent` is its span, so that a retry can link to it.

    `checkpoint_ref` is where the blob store has the latest checkpoint that it made itself, of `checkpoint_step` steps.
    """

    job_id: JobId
    attempt: int
    worker: WorkerId
    epoch: int
    outcome: str
    reason: str
    started_at: float
    ended_at: float | None
    gpu_ms: float
    traceparent: str
    checkpoint_ref: str = ""
    checkpoint_step: int = 0


@dataclass(frozen=True, slots=True)
class DurableEvent:
    """Something that happened to a job and is kept: seq counts from 1; `payload` is JSON."""

    job_id: JobId
    seq: int
    kind: str
    time: float
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """Something that must reach another service at least once. `kind` is `confirm` or `settle`."""

    kind: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A request and all that became of it. Times in Unix seconds; units as in libs.generation.cost."""

    id: JobId
    tenant_id: TenantId
    tier: str
    key_id: KeyId
    model: str  # as it was asked for
    model_version: str  # pinned, `id@version`
    spec: GenerationSpec
    estimated_units: float
    created_at: float
    state: JobState = JobState.QUEUED
    attempt: int = 0  # number of the latest attempt; 0 before the first
    counted_attempts: int = 0  # attempts that count towards the dead letter
    worker: WorkerId = WorkerId("")
    request_id: str = ""
    request_digest: str = ""
    traceparent: str = ""
    deadline_at: float | None = None
    not_before: float = 0.0  # a retry waits until then
    cancel_requested: bool = False
    started_at: float | None = None  # when its first attempt started
    finished_at: float | None = None
    expires_at: float | None = None  # when its pictures are removed
    queued_at: float = 0.0  # when it last entered the queue
    actual_units: float = 0.0
    charged_units: float = 0.0
    charge_reason: str = ""
    failure: Failure | None = None
    images: tuple[ImageStored, ...] = ()
    stages: tuple[StageDone, ...] = ()
    tenant_weight: float = 1.0  # its tenant's share beside others of the tier
    cache_key: str = ""  # of all that its pictures depend on; empty: it neither is nor has a cached result
    cache: str = "MISS"  # MISS: it is drawn; HIT, JOINED: the pictures are those of the job `drawn_by`
    drawn_by: JobId = JobId("")
    downgraded_from: str = ""  # the pinned model that a fallback took the place of
    dead_at: float | None = None  # when its attempts were used up: it lies among the dead letters since
    fresh_after: int = 0  # attempts up to this number do not count, nor is anything they left gone on from
    revivals: int = 0  # how often it came back from the dead letters
    run_of: JobId = JobId("")  # its run was taken over: its worker knows it as attempt `run_attempt` of that job
    run_attempt: int = 0
    running_images: int | None = None  # of its tenant, as many may be on devices at once
    address: str = ""  # what counts as the address of an owner without a key

    @property
    def shape(self) -> Shape:
        """What it needs of a worker beside its model: rows, by size."""
        return Shape.of(self.model_version, self.spec)

    @property
    def open(self) -> bool:
        """Whether anything can still happen to it."""
        return self.state in OPEN_STATES

    @property
    def run(self) -> Run:
        """The name that its latest attempt has on the worker."""
        return (self.run_of, self.run_attempt) if self.run_of else (self.id, self.attempt)

    def evolve(self, **changes: Any) -> Job:
        """Return a copy with `changes`."""
        return dataclasses.replace(self, **changes)
