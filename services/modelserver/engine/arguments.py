"""From a spec to the arguments of a pipeline, leaving out what this pipeline does not take."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from libs.generation.spec import GenerationSpec
from services.modelserver.engine.protocol import BadInput, Request
from services.modelserver.samplers import SAMPLERS

# The default, or a DDPM model's own value, is for pixels and not for latents.
_LCM_STEPS = 50  # it draws on a schedule of so many steps and refuses more
_OVERRIDES: dict[str, dict[str, Any]] = {"ddim": {"clip_sample": False}, "lcm": {"clip_sample": False}}


def call_arguments(pipe: Any, requests: Sequence[Request], on_step: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Return keyword arguments for `pipe`, for one request or for several that differ in words and seeds only.

    An empty negative prompt is left to the pipeline's own default. Raises BadInput when the pipeline cannot take
    what the spec brings.
    """
    taken = inspect.signature(type(pipe).__call__).parameters
    request, spec = requests[0], requests[0].spec
    wanted: dict[str, Any] = {
        "prompt": _texts([each.spec.prompt for each in requests]),
        "negative_prompt": _negative(requests, needed=_guides_truly(taken) and spec.guided),
        "height": spec.height,
        "width": spec.width,
        "num_inference_steps": spec.steps,
        **_guidance(spec, taken),
        "num_images_per_prompt": spec.images,
        "num_frames": spec.frames or None,
        "fps": spec.fps or None,
        "image": _pictures(request.image, spec.images),
        "mask_image": _pictures(request.mask, spec.images),
        "strength": None if request.image is None else spec.strength,
        "generator": [generator for each in requests for generator in generators(each.spec)],
        "callback_on_step_end": on_step,
        "callback_on_step_end_tensor_inputs": ["latents"],
        "output_type": "np",
    }
    for name in ("image", "mask_image"):
        if wanted[name] is not None and name not in taken:
            raise BadInput(f"{type(pipe).__name__} takes no {name}")
    arguments = {name: value for name, value in wanted.items() if name in taken and value is not None}
    if spec.images > 1 and "prompt" in taken and "num_images_per_prompt" not in taken:
        arguments["prompt"] = [each.spec.prompt for each in requests for _ in range(spec.images)]
    return arguments


def generators(spec: GenerationSpec) -> list[torch.Generator]:
    """Return one source of noise a picture, on the CPU: then a seed means the same on every device."""
    return [torch.Generator("cpu").manual_seed(spec.image_seed(index)) for index in range(spec.images)]


def fresh_scheduler(own: Any, sampler: str, steps: int = 0) -> Any:
    """Return a scheduler for one drawing: they keep where they are and must not be shared.

    Configured like the model's `own`; a copy of it when the sampler is of the same class or is not known here.
    """
    kind = getattr(diffusers, SAMPLERS.get(sampler, ""), None)
    if kind is not None and sampler == "lcm" and steps > _LCM_STEPS:
        return kind.from_config(own.config, original_inference_steps=steps, **_OVERRIDES["lcm"])
    if kind is None or type(own) is kind or "FlowMatch" in type(own).__name__:
        return copy.deepcopy(own)
    return kind.from_config(own.config, **_OVERRIDES.get(sampler, {}))


def _texts(texts: Sequence[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else list(texts)


def _negative(requests: Sequence[Request], *, needed: bool) -> Any:
    """Return the negative prompts; families with true guidance only guide where one is given, be it blank."""
    texts = [request.spec.negative_prompt or (" " if needed else "") for request in requests]
    return _texts(texts) if any(texts) else None


def _guidance(spec: GenerationSpec, taken: Any) -> dict[str, Any]:
    """Return the guidance under the name that means classifier-free guidance, or the distilled one, to this family."""
    if "max_guidance_scale" in taken:  # over the frames of a clip, from least to most
        return {"max_guidance_scale": spec.guidance_scale, "min_guidance_scale": min(1.0, spec.guidance_scale)}
    return {"true_cfg_scale" if _guides_truly(taken) else "guidance_scale": spec.guidance_scale}


def _guides_truly(taken: Any) -> bool:
    """Return whether the scale of guidance is called `true_cfg_scale`; Flux's usual one is the distilled one."""
    distilled = "guidance_scale" in taken and isinstance(taken["guidance_scale"].default, (int, float))
    return "true_cfg_scale" in taken and not distilled


def _pictures(pixels: NDArray[np.uint8] | None, images: int) -> Image.Image | list[Image.Image] | None:
    """Return one for each picture: given one for all, pipelines would take the noise of the first for all."""
    if pixels is None:
        return None
    picture = Image.fromarray(pixels)
    return picture if images == 1 else [picture] * images
