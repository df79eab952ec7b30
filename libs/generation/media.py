"""What goes into a drawing besides text, and what comes out: input picture, mask, strength, frames, file format.

Pure rules by model; `spec.resolve` applies them. None means: this request has no such thing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from libs.errors import Violation
from libs.generation.model import IMAGE, INPAINT, TEXT, Model

if TYPE_CHECKING:
    from libs.generation.spec import GenerationSpec, SpecRequest

STILL_FORMATS, CLIP_FORMATS = ("png", "jpeg", "webp"), ("mp4", "webp")
MAX_FPS = 60
_INPAINT_STRENGTH = 1.0  # what the mask shows is drawn anew; what the picture had there does not shine through
_UPLOAD_ID = re.compile(r"upl_[0-9A-HJKMNP-TV-Z]{26}")


def formats(model: Model) -> tuple[str, ...]:
    """Return the file formats of what the model draws, its default one first."""
    return CLIP_FORMATS if model.draws_video else STILL_FORMATS


def strength(request: SpecRequest, model: Model) -> float | None:
    """Return the strength that is used; None when nothing is drawn over or the model knows no strength."""
    if request.strength is not None or not request.input_image or not model.defaults.strength:
        return request.strength
    return _INPAINT_STRENGTH if request.mask_image else model.defaults.strength


def clip(request: SpecRequest, model: Model) -> tuple[int | None, int | None]:
    """Return frames and frames a second; what a model of pictures is asked for stays, to be refused."""
    if not model.draws_video:
        return request.frames, request.fps
    defaults = model.defaults
    return (
        defaults.frames if request.frames is None else request.frames,
        defaults.fps if request.fps is None else request.fps,
    )


def drawn_steps(steps: int, strength: float | None) -> int:
    """Return how many of `steps` are drawn: a drawing over a picture leaves out the first ones, as diffusers does."""
    return steps if strength is None else min(steps, int(steps * strength))


def input_problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    """Return what is wrong with the picture, the mask and the strength of a spec."""
    problems = _picture_problems(spec, model)
    for name, value in (("input_image", spec.input_image), ("mask_image", spec.mask_image)):
        if value and not _UPLOAD_ID.fullmatch(value):
            told = "must be the id of an upload, like upl_01…; send the picture to /v1/uploads first"
            problems.append(Violation(name, told))
    if spec.mask_image and not spec.input_image:
        problems.append(Violation("mask_image", "needs input_image, the picture that it belongs to"))
    return problems + _strength_problems(spec, model)


def clip_problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    """Return what is wrong with the frames of a spec."""
    limits = model.limits
    if not model.draws_video:
        told = f"is for clips; the model {model.id} draws pictures"
        return [Violation(name, told) for name in ("frames", "fps") if getattr(spec, name) is not None]
    problems, frames, fps = list[Violation](), spec.frames or 0, spec.fps or 0
    step = max(1, limits.frame_step)
    if not 1 <= frames <= limits.max_frames or (frames - 1) % step:
        several = f"1 and a multiple of {step} more, " if step > 1 else ""
        problems.append(Violation("frames", f"must be {several}from 1 to {limits.max_frames}, not {frames}"))
    if not 1 <= fps <= MAX_FPS:
        problems.append(Violation("fps", f"must be from 1 to {MAX_FPS}, not {fps}"))
    return problems


def _picture_problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    tasks = model.tasks
    if spec.mask_image and INPAINT not in tasks:
        return [Violation("mask_image", f"cannot be used: the model {model.id} has no inpainting")]
    if spec.input_image and not spec.mask_image and IMAGE not in tasks:
        mask = "only together with mask_image" if INPAINT in tasks else "it draws from text alone"
        return [Violation("input_image", f"cannot be used with the model {model.id}: {mask}")]
    if not spec.input_image and TEXT not in tasks:
        return [Violation("input_image", f"is missing: the model {model.id} draws from a picture")]
    return []


def _strength_problems(spec: GenerationSpec, model: Model) -> list[Violation]:
    asked = spec.strength
    if asked is None:
        return []
    if not spec.input_image:
        return [Violation("strength", "needs input_image, the picture that is drawn over")]
    if not model.defaults.strength:
        return [Violation("strength", f"cannot be used: the model {model.id} takes none")]
    if not 0 < asked <= 1:  # also false for NaN
        return [Violation("strength", f"must be above 0 and at most 1, not {asked:g}")]
    if drawn_steps(spec.steps, asked) < 1:
        return [Violation("strength", f"leaves none of the {spec.steps} steps; their product must be at least 1")]
    return []
