"""What is said about an attempt while it runs and when it ends."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class FailureKind(enum.Enum):
    """Whose fault it was; the scheduler decides by it what happens next."""

    INVALID = "invalid"  # the request can never succeed
    OUT_OF_MEMORY = "out_of_memory"  # the device's memory did not suffice
    TRANSIENT = "transient"  # a passing fault; another try may succeed
    MODEL_UNAVAILABLE = "model_unavailable"  # the model cannot be used on this worker
    CANCELLED = "cancelled"  # it was told to stop
    DRAINING = "draining"  # the worker goes away and hands the job back


@dataclass(frozen=True, slots=True)
class Progress:
    """A step is done, from 1 to total; `eta_s` seconds until the pictures are ready, as estimated."""

    step: int
    total: int
    eta_s: float


@dataclass(frozen=True, slots=True)
class Preview:
    """A rough picture of what is developing, encoded."""

    step: int
    total: int
    index: int
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage is over: load, encode, denoise, decode or store. Times in Unix seconds."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class ImageStored:
    """A picture is in the blob store."""

    index: int
    content_type: str
    width: int
    height: int
    seed: int
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """The attempt ended well: milliseconds of the device that it used, and the most memory meanwhile."""

    gpu_ms: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt ended without its pictures. `reason` is of the table of reasons; the message names no prompt."""

    kind: FailureKind
    reason: str
    message: str
    gpu_ms: float = 0.0


Event = Progress | Preview | StageDone | ImageStored | Done | Failed
TRANSIENT_EVENTS = (Progress, Preview)
FINAL_EVENTS = (Done, Failed)
