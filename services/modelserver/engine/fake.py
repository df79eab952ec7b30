"""An engine without weights: pictures that depend on the spec alone, at once. It ships, and the tests run on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from libs.generation.spec import GenerationSpec
from services.modelserver.engine.protocol import Cancelled, DeviceInfo, Drawing, Pixels, Reports
from services.modelserver.models import ModelFolder


def _no_load_hook(_folder: ModelFolder) -> None:
    return None


def _no_hook(_spec: GenerationSpec, _step: int) -> None:
    return None


class FakeEngine:
    """Keeps the promises of `Engine`. Hooks run on the device thread and may block or raise, as a test likes."""

    def __init__(
        self,
        *,
        on_load: Callable[[ModelFolder], None] = _no_load_hook,
        on_step: Callable[[GenerationSpec, int], None] = _no_hook,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._on_load = on_load
        self._on_step = on_step
        self._clock = clock
        self._resident: tuple[str, ...] = ()

    @property
    def device(self) -> DeviceInfo:
        """A device of no account."""
        return DeviceInfo("cpu", "cpu", 2**30)

    @property
    def resident(self) -> tuple[str, ...]:
        """The model that was loaded last."""
        return self._resident

    def load(self, folder: ModelFolder) -> None:
        """Make this model the resident one."""
        self._on_load(folder)
        self._resident = (folder.model.pinned,)

    def draw(self, pinned: str, spec: GenerationSpec, reports: Reports) -> Drawing:
        """Draw one flat colour a picture, from prompt, model and seed."""
        start_s = self._clock()
        reports.stage("encode", start_s, self._clock())
        for step in range(1, spec.steps + 1):
            if reports.cancelled():
                raise Cancelled("cancelled")
            self._on_step(spec, step)
            reports.step(step, spec.steps)
            if spec.preview and step == 1:
                reports.preview(step, spec.steps, 0, self._picture(pinned, spec, 0)[:8, :8])
        reports.stage("denoise", start_s, self._clock())
        pictures = tuple(self._picture(pinned, spec, index) for index in range(spec.images))
        reports.stage("decode", start_s, self._clock())
        return Drawing(pictures, peak_memory_bytes=2**20)

    def memory_bytes(self) -> int:
        """Return the same every time."""
        return 2**20

    @staticmethod
    def _picture(pinned: str, spec: GenerationSpec, index: int) -> Pixels:
        drawn_from = f"{pinned}|{spec.prompt}|{spec.negative_prompt}|{spec.steps}|{spec.image_seed(index)}"
        colour = np.frombuffer(hashlib.sha256(drawn_from.encode()).digest()[:3], dtype=np.uint8)
        return np.broadcast_to(colour, (spec.height, spec.width, 3)).copy()
