"""What an attempt brings, in the words of everybody who speaks of it: model server, scheduler and the wire between."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class FailureKind(enum.Enum):
    """Whose fault it was; the scheduler decides by it what happens next. Values are the names of the wire's enum."""

    INVALID = "INVALID"  # the request can never succeed
    OUT_OF_MEMORY = "OUT_OF_MEMORY"  # the device's memory did not suffice
    TRANSIENT = "TRANSIENT"  # a passing fault; another try may succeed
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"  # the model cannot be used on that worker
    CANCELLED = "CANCELLED"  # it was told to stop
    DRAINING = "DRAINING"  # the worker goes away and hands the job back
    BLOCKED = "BLOCKED"  # the safety check found what is not allowed, in the prompt or in pictures


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage is over: queue, load, encode, denoise, decode or store. Times in Unix seconds."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint is in the blob store under the key `ref`: any worker can go on after `step` of `total`."""

    ref: str
    step: int
    total: int


@dataclass(frozen=True, slots=True)
class ImageStored:
    """A picture is in the blob store. Sizes in pixels and bytes."""

    index: int
    sha256: str
    content_type: str
    width: int
    height: int
    seed: int
    size_bytes: int
