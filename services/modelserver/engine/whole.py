"""The whole-pipeline lane: any diffusers pipeline as it is, one request at a time, watched through its step callback."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError

from libs.generation.spec import GenerationSpec
from services.modelserver.engine.arguments import call_arguments, fresh_scheduler
from services.modelserver.engine.device import Device
from services.modelserver.engine.preview import Previewer
from services.modelserver.engine.protocol import (
    BadPictures,
    Cancelled,
    DeviceInfo,
    DeviceLost,
    Drawing,
    ModelBroken,
    OutOfMemory,
    Pixels,
    Reports,
    Request,
)
from services.modelserver.engine.quiet import quiet_libraries
from services.modelserver.engine.timeline import Timeline
from services.modelserver.models import ModelFolder

# What loaders of files raise when the files are wrong; anything else is a fault of ours and is logged as one.
_LOAD_ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError, SafetensorError)
_MAX_REASON = 200  # characters of a library's own words in a reason
_ALLOCATION_FAILED = ("not enough memory", "can't allocate memory", "out of memory")


class WholePipelineEngine:
    """Keeps the promises of `Engine` with one resident pipeline."""

    def __init__(self, device: Device, *, now: Callable[[], float] = time.time) -> None:
        quiet_libraries()
        self._device = device
        self._now = now
        self._pipes: dict[str, Any] = {}
        self._schedulers: dict[str, Any] = {}  # as the model came; drawings use copies

    @property
    def device(self) -> DeviceInfo:
        """What it runs on."""
        return self._device.info

    @property
    def resident(self) -> tuple[str, ...]:
        """The one model in memory."""
        return tuple(self._pipes)

    def load(self, folder: ModelFolder) -> None:
        """Load a pipeline from its folder, the one before leaves first."""
        pinned = folder.model.pinned
        if pinned in self._pipes:
            return
        self._pipes, self._schedulers = {}, {}
        self._device.release()
        try:
            with _memory_told():
                self._pipes = {pinned: self._read(folder)}
        except _LOAD_ERRORS as error:
            first_line = str(error).partition("\n")[0][:_MAX_REASON]
            raise ModelBroken(f"it does not load: {type(error).__name__}: {first_line}") from error
        self._folder = folder
        self._schedulers = {pinned: pipe.scheduler for pinned, pipe in self._pipes.items()}

    def _read(self, folder: ModelFolder) -> Any:
        pipe = DiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
            str(folder.path),
            local_files_only=True,
            use_safetensors=True,
            dtype=self._device.dtype(folder.options.dtype),
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(self._device.torch)

    def draw(self, pinned: str, spec: GenerationSpec, reports: Reports) -> Drawing:
        """Draw all pictures of the spec in one call of the pipeline."""
        pipe = self._pipes[pinned]
        pipe.scheduler = fresh_scheduler(self._schedulers[pinned], spec.sampler)
        self._device.begin_peak()
        timeline = Timeline(reports, self._now)
        watch = _StepWatch(self._device, timeline, reports, spec, pipe)
        try:
            with _memory_told(), _begin_told(pipe, timeline):
                output = pipe(**call_arguments(pipe, [Request("", self._folder, spec)], watch.on_step_end))
                self._device.wait()
            watch.finish()
            return Drawing(_pictures(output), self._device.peak_bytes())
        except OutOfMemory:
            self._device.release()  # what the drawing left in torch's cache would starve the next one
            raise
        finally:
            timeline.close()

    def memory_bytes(self) -> int:
        """Return the device memory in use by this process now."""
        return self._device.memory_bytes()


class _StepWatch:
    """What happens at the end of each step: cancel, look for NaN, report, preview."""

    def __init__(self, device: Device, timeline: Timeline, reports: Reports, spec: GenerationSpec, pipe: Any) -> None:
        self._device, self._timeline, self._reports = device, timeline, reports
        self._steps = spec.steps
        self._told = False
        self._previewer = Previewer(pipe, pipe.scheduler, spec.width, spec.height) if spec.preview else None

    def on_step_end(self, pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """Be told by the pipeline; raising ends the drawing at this step."""
        self._device.wait()
        step, total = index + 1, getattr(pipe, "num_timesteps", self._steps)
        self._reports.step(step, total)
        self._told = True
        if self._reports.cancelled():
            raise Cancelled("cancelled")
        if step == total:
            if not torch.isfinite(tensors["latents"]).all():
                raise BadPictures("the numbers ran away while drawing")
            self._timeline.enter("decode")
        elif self._previewer is not None:
            for row, pixels in enumerate(self._previewer.pictures(tensors["latents"])):
                self._reports.preview(step, total, row, pixels)
        return {}

    def finish(self) -> None:
        """Tell at least the last step, for a pipeline that tells none itself."""
        if not self._told:
            self._reports.step(self._steps, self._steps)


@contextmanager
def _begin_told(pipe: Any, timeline: Timeline) -> Generator[None, None, None]:
    """Notice the denoiser's first forward: until then the prompt was encoded."""
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    if denoiser is None:
        yield
        return
    hook = denoiser.register_forward_pre_hook(lambda _module, _inputs: timeline.enter("denoise"))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _memory_told() -> Generator[None, None, None]:
    """Give torch's words for a lack of memory and for a dead device the names of the seam."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory("the device's memory did not suffice") from error
    except torch.AcceleratorError as error:
        raise DeviceLost("the device does not answer any more") from error
    except RuntimeError as error:
        if any(words in str(error) for words in _ALLOCATION_FAILED):
            raise OutOfMemory("the device's memory did not suffice") from error
        raise


def _pictures(output: Any) -> tuple[Pixels, ...]:
    """Return what diffusers would have made PIL images of: [height, width, 3] in levels of 255."""
    images = np.asarray(output.images)  # [images, height, width, channels], 0 to 1
    if not np.isfinite(images).all():
        raise BadPictures("the numbers ran away while decoding")
    return tuple((images * 255).round().astype(np.uint8)[..., :3])
