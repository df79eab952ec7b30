"""Models: `darkroom.v1.Model` ⇄ `Model`."""

from __future__ import annotations

import dataclasses

from darkroom.v1 import model_pb2 as pb
from libs.generation.model import STILL, TEXT, Model, ModelDefaults, ModelLimits


def model_to_pb(model: Model) -> pb.Model:
    """Return the message, in OpenAI's shape as a superset."""
    limits = {f.name: getattr(model.limits, f.name) for f in dataclasses.fields(model.limits)}
    defaults = {f.name: getattr(model.defaults, f.name) for f in dataclasses.fields(model.defaults)}
    return pb.Model(
        id=model.id,
        object="model",
        owned_by="darkroom",
        version=model.version,
        aliases=model.aliases,
        limits=pb.ModelLimits(**limits),
        defaults=pb.ModelDefaults(**defaults),
        pipeline=model.pipeline,
        usable=model.usable,
        unusable_reason=model.unusable_reason,
        residency=model.residency,
        workers=model.workers,
        loras=model.loras,
        tasks=model.tasks,
        output=model.output,
        fallback=model.fallback,
    )


def model_from_pb(model: pb.Model) -> Model:
    """Return the domain's form."""
    limits, defaults = model.limits, model.defaults
    return Model(
        id=model.id,
        version=model.version,
        pipeline=model.pipeline,
        aliases=tuple(model.aliases),
        limits=ModelLimits(
            min_size=limits.min_size,
            max_size=limits.max_size,
            size_step=limits.size_step,
            max_pixels=limits.max_pixels,
            max_steps=limits.max_steps,
            max_images=limits.max_images,
            max_guidance_scale=limits.max_guidance_scale,
            samplers=tuple(limits.samplers),
            max_frames=limits.max_frames,
            frame_step=limits.frame_step,
        ),
        defaults=ModelDefaults(
            width=defaults.width,
            height=defaults.height,
            steps=defaults.steps,
            guidance_scale=defaults.guidance_scale,
            sampler=defaults.sampler,
            strength=defaults.strength,
            frames=defaults.frames,
            fps=defaults.fps,
        ),
        unusable_reason=model.unusable_reason,
        residency=model.residency,
        workers=model.workers,
        loras=tuple(model.loras),
        tasks=tuple(model.tasks) or (TEXT,),  # a worker of before does not say
        output=model.output or STILL,
        fallback=model.fallback,
    )
