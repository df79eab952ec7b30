"""The seam between who decides what runs (worker.py) and what draws it. No torch in here.

Promises, checked on every engine by one suite:
1. The same spec and seed give the same pictures, whatever is drawn beside; picture i is what a job of its own with
   seed + i gives (within one level of 255 where a batch is computed together).
2. Steps are reported ascending, the first and the last among them; the last word on a request is said once.
3. A cancel frees its rows at once, a park too; what is resumed, here or from a checkpoint elsewhere, ends as the
   picture that it would have been.
4. A failure of one request leaves its neighbours and their pictures as they are, and the engine ready for the next.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from libs.generation.spec import GenerationSpec
from services.modelserver.engine.stats import EngineStats
from services.modelserver.models import ModelFolder

Pixels = NDArray[np.uint8]  # a still [height, width, 3] or a clip [frames, height, width, 3], red green blue
Mask = NDArray[np.uint8]  # [height, width], 255 where the picture is drawn anew


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the engine runs on."""

    name: str  # `cpu` or `cuda:N`
    id: str  # `cpu` or the GPU's UUID
    memory_bytes: int
    kind: str = "cpu"  # `cpu` or what the GPU is called, `NVIDIA H200`


@dataclass(frozen=True, slots=True)
class Drawing:
    """What came of one spec: its pictures or clips in order.

    `gpu_ms` is its share, by rows, of every pass of the device that it was part of; `peak_memory_bytes` the most
    device memory in use meanwhile. `flagged` tells which pictures the model's own safety checker took out.
    """

    pictures: tuple[Pixels, ...]
    peak_memory_bytes: int
    gpu_ms: float = 0.0
    fps: int = 0  # of clips
    flagged: tuple[bool, ...] = ()


class Tier(enum.Enum):
    """Where a model's weights are; values are the words of the public API."""

    VRAM = "vram"  # in the device's memory, ready to draw
    RAM = "ram"  # in this process's memory, a copy away from the device
    DISK = "disk"  # in their files


@dataclass(frozen=True, slots=True)
class Request:
    """One drawing to make. `id` is unique among the requests an engine holds.

    `image` and `mask` have the size of the spec. With a `checkpoint` (bytes of an earlier `Reports.checkpoint`)
    it goes on from there; one that does not belong to this spec, model and build is left aside.
    """

    id: str
    folder: ModelFolder
    spec: GenerationSpec
    image: Pixels | None = None
    mask: Mask | None = None
    checkpoint: bytes = b""


class Reports(Protocol):
    """What an engine says about one request, from inside `tick`, `admit` and `cancel`. Times in Unix seconds.

    The last thing said is exactly one of `done` and `failed`.
    """

    def step(self, step: int, total: int, eta_s: float) -> None:
        """Tell that a step is done, 1 to total; `eta_s` is measured on this device, until the pictures are ready."""
        ...

    def preview(self, step: int, total: int, index: int, pixels: Pixels) -> None:
        """Show a rough, small picture; only when the spec asks for it."""
        ...

    def stage(self, name: str, start_s: float, end_s: float) -> None:
        """Tell that `load`, `encode`, `denoise` or `decode` is over, or was broken off."""
        ...

    def checkpoint(self, step: int, total: int, data: bytes) -> None:
        """Hand over everything needed to go on after `step` elsewhere."""
        ...

    def done(self, drawing: Drawing) -> None:
        """Hand over the pictures."""
        ...

    def failed(self, error: Exception, gpu_ms: float = 0.0) -> None:
        """Tell why there are none: an EngineFailure, or whatever a library raised; and what was spent by then."""
        ...


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """How full an engine is of one model on its device; `most` rows by size, as BatchTable names sizes."""

    pinned: str
    rows: int  # that draw
    most: tuple[tuple[str, int], ...]  # that may draw side by side: they pay and fit into the memory, as measured


@dataclass(frozen=True, slots=True)
class Load:
    """How full an engine is. Rows are images × guidance branches of one forward."""

    drawing: int  # requests that take part in forwards now
    waiting: int  # for rows or for their model
    parked: int
    rows: int  # of the requests that draw
    most_requests: int  # that pay to be drawn together, as measured so far, at the usual size of the models in use
    models: tuple[ModelLoad, ...] = ()  # on the device
    free_bytes: int | None = None  # of its memory, when models came or left last


class Engine(Protocol):
    """Holds models and draws many requests side by side, one pass of the device at a time.

    Everything but what says otherwise is called from the one thread that owns the device.
    """

    @property
    def device(self) -> DeviceInfo:
        """What it runs on."""
        ...

    def residency(self) -> Mapping[str, Tier]:
        """Return where the models are that are not on disk, by `id@version`; callable from every thread."""
        ...

    def load_share(self) -> Mapping[str, float]:
        """Return the share that is done, 0 to 1, of each model that is read now; callable from every thread."""
        ...

    def memory_bytes(self) -> int:
        """Return the device memory in use by this process now; callable from every thread."""
        ...

    def stats(self) -> EngineStats:
        """Return what has been counted so far; callable from every thread."""
        ...

    def load(self) -> Load:
        """Return how full it is."""
        ...

    def admit(self, request: Request, reports: Reports) -> None:
        """Take a request; it begins at a later tick, when its model is there and rows are free."""
        ...

    def cancel(self, request_id: str) -> bool:
        """Stop a request, at once; it says `failed(Cancelled)`. False when it is not here (any more)."""
        ...

    def park(self, request_id: str) -> bool:
        """Take a request off the device at its last step, its state into host memory. False when it cannot be."""
        ...

    def resume(self, request_id: str) -> bool:
        """Let a parked request go on when rows are free. False when it is not parked."""
        ...

    def warm(self, folder: ModelFolder, tier: Tier) -> None:
        """Begin to bring a model's weights into RAM or VRAM, without stalling what draws."""
        ...

    def evict(self, pinned: str) -> bool:
        """Let a model's weights go. False when it draws, or was not here."""
        ...

    def tick(self) -> bool:
        """Do one pass. False: there is nothing to do before `on_wake` was called or something was admitted."""
        ...

    def on_wake(self, wake: Callable[[], None]) -> None:
        """Set what the engine's own threads call when a tick is worth while again; it must not block."""
        ...

    def close(self) -> None:
        """End its threads."""
        ...


class EngineFailure(Exception):
    """A drawing or a load that came to nothing. The message never holds text of the request."""


class Cancelled(EngineFailure):
    """It was told to stop."""


class OutOfMemory(EngineFailure):
    """The device's memory did not suffice."""


class ModelBroken(EngineFailure):
    """The model cannot be loaded from its files."""


class BadPictures(EngineFailure):
    """The numbers ran away: NaN or infinity instead of pictures."""


class BadInput(EngineFailure):
    """The model cannot do what the spec asks for; the message says what, without any text of the request."""


class DeviceLost(EngineFailure):
    """The device does not answer any more; only a new process can use it."""
