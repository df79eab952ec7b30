"""The seam between who decides what runs (worker.py) and what draws it. No torch in here.

Promises, checked on every engine by one suite:
1. The same spec and seed give the same pictures; picture i is what a job of its own with seed + i gives (within one
   level of 255 where a batch is computed together).
2. Steps are reported ascending, the first and the last among them.
3. A cancel is obeyed at the next step. A failure of one drawing leaves the engine ready for the next.
4. All of it is called from one thread, and blocks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from libs.generation.spec import GenerationSpec
from services.modelserver.models import ModelFolder

Pixels = NDArray[np.uint8]  # [height, width, 3], red green blue


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the engine runs on."""

    name: str  # `cpu` or `cuda:N`
    id: str  # `cpu` or the GPU's UUID
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """What came of one spec: its pictures in order, and the most memory of the device that was in use, in bytes."""

    pictures: tuple[Pixels, ...]
    peak_memory_bytes: int


class Reports(Protocol):
    """What an engine says, and asks, while it draws. Times in Unix seconds, steps from 1 to total."""

    def step(self, step: int, total: int) -> None:
        """A step is done."""
        ...

    def preview(self, step: int, total: int, index: int, pixels: Pixels) -> None:
        """Show a rough, small picture; only when the spec asks for it."""
        ...

    def stage(self, name: str, start_s: float, end_s: float) -> None:
        """Tell that `encode`, `denoise` or `decode` is over, or was broken off."""
        ...

    def cancelled(self) -> bool:
        """Return whether to stop at this step."""
        ...


class Engine(Protocol):
    """Holds models in the device's memory and draws with them."""

    @property
    def device(self) -> DeviceInfo:
        """What it runs on."""
        ...

    @property
    def resident(self) -> tuple[str, ...]:
        """Models in the device's memory, as `id@version`."""
        ...

    def load(self, folder: ModelFolder) -> None:
        """Make a model resident, others may have to leave; raises ModelBroken or OutOfMemory."""
        ...

    def draw(self, pinned: str, spec: GenerationSpec, reports: Reports) -> Drawing:
        """Draw with a resident model; raises an EngineFailure."""
        ...

    def memory_bytes(self) -> int:
        """Return the device memory in use by this process now."""
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


class DeviceLost(EngineFailure):
    """The device does not answer any more; only a new process can use it."""
