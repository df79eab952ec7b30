"""A drawing without a model: one of our samplers against a denoiser that is a formula."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import diffusers
import torch

from services.modelserver.engine.checkpoint import (
    Checkpoint,
    noise_states,
    restore_noise,
    restore_sampler,
    sampler_state,
)

STEPS = 9
SHAPE = (2, 4, 8, 8)
_SD: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SAMPLERS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        "euler": lambda: diffusers.EulerDiscreteScheduler(**_SD, use_karras_sigmas=True),
        "euler v": lambda: diffusers.EulerDiscreteScheduler(**_SD, prediction_type="v_prediction"),
        "euler_a": lambda: diffusers.EulerAncestralDiscreteScheduler(**_SD),
        "ddim": lambda: diffusers.DDIMScheduler(**_SD, clip_sample=False),
        "dpmpp_2m": lambda: diffusers.DPMSolverMultistepScheduler(**_SD, solver_order=3),
        "dpmpp_2m sde": lambda: diffusers.DPMSolverMultistepScheduler(**_SD, algorithm_type="sde-dpmsolver++"),
        "flow euler": lambda: diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        "flow euler, stochastic": lambda: diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
        "unipc": lambda: diffusers.UniPCMultistepScheduler(**_SD, solver_order=3),
        "pndm": lambda: diffusers.PNDMScheduler(**_SD, skip_prk_steps=True),  # a model may come with it
    }
)


@dataclass(slots=True)
class Drawing:
    """Where a drawing is: its sampler, its source of noise, its latents and the steps that are done."""

    scheduler: Any
    generator: torch.Generator
    latents: torch.Tensor
    step: int = 0

    def go(self, until: int) -> Drawing:
        """Take steps; `until` counts from the start."""
        takes = inspect.signature(self.scheduler.step).parameters
        options: dict[str, Any] = {"generator": self.generator} if "generator" in takes else {}
        options |= {"eta": 0.7} if "eta" in takes else {}
        for timestep in self.scheduler.timesteps[self.step : until]:
            seen = self.latents
            if hasattr(self.scheduler, "scale_model_input"):
                seen = self.scheduler.scale_model_input(self.latents, timestep)
            answer = torch.tanh(seen * 0.3 + timestep / 1000 - 0.4)
            self.latents = self.scheduler.step(answer, timestep, self.latents, **options)[0]
            self.step += 1
        return self

    def checkpoint(self) -> Checkpoint:
        """Return all that is needed to go on."""
        total = len(self.scheduler.timesteps)
        noise, shapes = noise_states([self.generator]), (SHAPE,) * self.step
        return Checkpoint(
            "0" * 64, self.step, total, self.latents.clone(), sampler_state(self.scheduler), noise, shapes
        )


def begin(scheduler: Any) -> Drawing:
    """Return a drawing before its first step, with a copy of this scheduler."""
    mine, generator = copy.deepcopy(scheduler), torch.Generator().manual_seed(7)
    mine.set_timesteps(STEPS)
    return Drawing(mine, generator, torch.randn(SHAPE, generator=generator))


def resume(scheduler: Any, checkpoint: Checkpoint) -> Drawing:
    """Return a drawing that goes on from a checkpoint, with a copy of a scheduler that never drew."""
    mine, generator = copy.deepcopy(scheduler), torch.Generator()
    restore_sampler(mine, checkpoint.sampler)
    restore_noise([generator], checkpoint.noise)
    return Drawing(mine, generator, checkpoint.latents.clone(), checkpoint.step)
