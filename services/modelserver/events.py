"""What is said about an attempt while it runs and when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.generation.attempt import Checkpointed, FailureKind, ImageStored, StageDone


@dataclass(frozen=True, slots=True)
class Progress:
    """A step is done, from 1 to total; `eta_s` seconds until the pictures are ready, as estimated."""

    step: int
    total: int
    eta_s: float
    drawn_at: float = field(default=0.0, compare=False)  # when the device ended it, in Unix seconds


@dataclass(frozen=True, slots=True)
class Preview:
    """A rough picture of what is developing, encoded."""

    step: int
    total: int
    index: int
    content_type: str
    data: bytes


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


Event = Progress | Preview | StageDone | ImageStored | Checkpointed | Done | Failed
TRANSIENT_EVENTS = (Progress, Preview)
FINAL_EVENTS = (Done, Failed)
