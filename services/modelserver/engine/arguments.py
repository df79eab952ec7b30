"""From a spec to the arguments of a pipeline, leaving out what this pipeline does not take."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import diffusers
import torch

from libs.generation.spec import GenerationSpec
from services.modelserver.samplers import SAMPLERS

# The default, or a DDPM model's own value, is for pixels and not for latents.
_OVERRIDES: dict[str, dict[str, Any]] = {"ddim": {"clip_sample": False}, "lcm": {"clip_sample": False}}


def call_arguments(pipe: Any, spec: GenerationSpec, on_step: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Return keyword arguments for `pipe`. An empty negative prompt is left to the pipeline's own default."""
    taken = inspect.signature(type(pipe).__call__).parameters
    wanted: dict[str, Any] = {
        "negative_prompt": spec.negative_prompt or None,
        "height": spec.height,
        "width": spec.width,
        "num_inference_steps": spec.steps,
        "guidance_scale": spec.guidance_scale,
        "num_images_per_prompt": spec.images,
        "generator": generators(spec),
        "callback_on_step_end": on_step,
        "callback_on_step_end_tensor_inputs": ["latents"],
        "output_type": "np",
    }
    arguments = {name: value for name, value in wanted.items() if name in taken and value is not None}
    in_one_call = spec.images > 1 and "num_images_per_prompt" not in taken
    return {"prompt": [spec.prompt] * spec.images if in_one_call else spec.prompt, **arguments}


def generators(spec: GenerationSpec) -> list[torch.Generator]:
    """Return one source of noise a picture, on the CPU: then a seed means the same on every device."""
    return [torch.Generator("cpu").manual_seed(spec.image_seed(index)) for index in range(spec.images)]


def fresh_scheduler(own: Any, sampler: str) -> Any:
    """Return a scheduler for one drawing: they keep where they are and must not be shared.

    Configured like the model's `own`; a copy of it when the sampler is of the same class or is not known here.
    """
    kind = getattr(diffusers, SAMPLERS.get(sampler, ""), None)
    if kind is None or type(own) is kind or "FlowMatch" in type(own).__name__:
        return copy.deepcopy(own)
    return kind.from_config(own.config, **_OVERRIDES.get(sampler, {}))
