"""The reference: what plain diffusers draws for one picture of a request, alone, from the same folder.

Nothing of the engine is used here: the pipeline is loaded by its own from_pretrained, the task's class comes from
diffusers' AutoPipeline, sampler and noise are made anew for every picture.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import diffusers as d
import numpy as np
import torch
from PIL import Image

from libs.generation.spec import GenerationSpec
from services.modelserver.engine.protocol import Mask, Pixels
from services.modelserver.models import ModelFolder

_SAMPLERS = {
    "euler": (d.EulerDiscreteScheduler, {}),
    "euler_a": (d.EulerAncestralDiscreteScheduler, {}),
    "ddim": (d.DDIMScheduler, {"clip_sample": False}),
    "dpmpp_2m": (d.DPMSolverMultistepScheduler, {}),
    "unipc": (d.UniPCMultistepScheduler, {}),
    "lcm": (d.LCMScheduler, {"clip_sample": False}),
}
_FRAMES_AT_ONCE = 8
_GUIDED_TRULY = ("QwenImage",)  # families whose guidance_scale is another, distilled one


@dataclass(frozen=True, slots=True, eq=False)
class Solo:
    """One picture or clip drawn alone: its final latents, its pixels, the steps that were told."""

    latents: torch.Tensor
    picture: Pixels
    steps: tuple[int, ...]


class Solos:
    """Draws references, each of them once."""

    def __init__(self) -> None:
        self._pipes: dict[str, Any] = {}
        self._drawn: dict[tuple[str, ...], Solo] = {}

    def draw(
        self, folder: ModelFolder, spec: GenerationSpec, index: int, image: Pixels | None = None,
        mask: Mask | None = None,
    ) -> Solo:  # fmt: skip
        """Return picture `index` of a request as plain diffusers draws it by itself."""
        seed = (spec.seed + index) % 2**32
        single = dataclasses.replace(spec, seed=seed, images=1, preview=False)
        key = (folder.model.pinned, repr(single), _digest(image), _digest(mask))
        if key not in self._drawn:
            self._drawn[key] = _draw(self._pipe(folder, image, mask), single, image, mask)
        return self._drawn[key]

    def _pipe(self, folder: ModelFolder, image: Pixels | None, mask: Mask | None) -> Any:
        pinned = folder.model.pinned
        if pinned not in self._pipes:
            self._pipes[pinned] = d.DiffusionPipeline.from_pretrained(
                str(folder.path), local_files_only=True, dtype=torch.float32
            )
        pipe = self._pipes[pinned]
        own = type(pipe.scheduler).from_config(pipe.scheduler.config)
        if image is not None and not isinstance(pipe, d.StableVideoDiffusionPipeline):
            kind = d.AutoPipelineForImage2Image if mask is None else d.AutoPipelineForInpainting
            pipe = kind.from_pipe(pipe)
        pipe.scheduler = own
        pipe.set_progress_bar_config(disable=True)
        return pipe


def _draw(pipe: Any, spec: GenerationSpec, image: Pixels | None, mask: Mask | None) -> Solo:
    own = pipe.scheduler
    latents: list[torch.Tensor] = []
    steps: list[int] = []

    def keep(_pipe: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(index + 1)
        latents[:] = [tensors["latents"].clone()]
        return {}

    pipe.scheduler = _sampler(own, spec.sampler)
    try:
        output = pipe(
            **_arguments(pipe, spec, image, mask), generator=torch.Generator("cpu").manual_seed(spec.seed),
            callback_on_step_end=keep, callback_on_step_end_tensor_inputs=["latents"], output_type="np",
        )  # fmt: skip
    finally:
        pipe.scheduler = own
    drawn = np.asarray(output.images if hasattr(output, "images") else output.frames)[0]
    return Solo(latents[0], (drawn * 255).round().astype(np.uint8), tuple(steps))


def _sampler(own: Any, name: str) -> Any:
    if isinstance(own, d.FlowMatchEulerDiscreteScheduler) or name == "native":
        return own
    kind, more = _SAMPLERS[name]
    return kind.from_config(own.config) if isinstance(own, kind) else kind.from_config(own.config, **more)


def _arguments(pipe: Any, spec: GenerationSpec, image: Pixels | None, mask: Mask | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {"height": spec.height, "width": spec.width, "num_inference_steps": spec.steps}
    if image is not None:
        arguments["image"] = Image.fromarray(image)
    if isinstance(pipe, d.StableVideoDiffusionPipeline):
        guidance = {"min_guidance_scale": min(1.0, spec.guidance_scale), "max_guidance_scale": spec.guidance_scale}
        return {
            **arguments,
            **guidance,
            "num_frames": spec.frames,
            "fps": spec.fps,
            "decode_chunk_size": _FRAMES_AT_ONCE,
        }
    if type(pipe).__name__.startswith(_GUIDED_TRULY):
        arguments["true_cfg_scale"] = spec.guidance_scale
        negative: str | None = spec.negative_prompt or (" " if spec.guidance_scale > 1 else None)
    else:
        arguments["guidance_scale"] = spec.guidance_scale
        negative = spec.negative_prompt or None
    if spec.frames:
        arguments["num_frames"] = spec.frames
    if spec.strength is not None:
        arguments["strength"] = spec.strength
    if mask is not None:
        arguments["mask_image"] = Image.fromarray(mask)
    return {**arguments, "prompt": spec.prompt, "negative_prompt": negative}


def _digest(pixels: Pixels | Mask | None) -> str:
    return "" if pixels is None else hashlib.sha256(pixels.tobytes()).hexdigest()
