"""How a pipeline call is taken up after a step that was done elsewhere or before it was parked.

The same call is begun again. Up to the checkpoint's step its denoiser answers with zeros, which costs next to nothing;
at the end of that step latents, sampler and noise are put in place. Meanwhile the shapes of the denoiser's answers are
kept, so that the next checkpoint can say what the zeros must look like.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from services.modelserver.engine.calls import Call
from services.modelserver.engine.checkpoint import (
    BadCheckpoint,
    Checkpoint,
    noise_states,
    restore_noise,
    restore_sampler,
    sampler_state,
)
from services.modelserver.engine.held_values import NotPlain


class Resumption:
    """One call's way back. `scheduler` and `noise` are the call's own."""

    def __init__(self, checkpoint: Checkpoint | None, scheduler: Any, noise: Sequence[torch.Generator]) -> None:
        self._checkpoint = checkpoint
        self._scheduler = scheduler
        self._noise = noise
        self._shapes = list(checkpoint.shapes) if checkpoint is not None else []
        self._ordinal = 0  # of the denoiser's call within a step

    @property
    def step(self) -> int:
        """The step that it goes on after; 0 when it begins at the beginning."""
        return 0 if self._checkpoint is None else self._checkpoint.step

    def begin_step(self) -> None:
        """Count the denoiser's calls from the first again."""
        self._ordinal = 0

    def remember(self, answer: Any) -> None:
        """Keep the shape of an answer of the denoiser."""
        rows = answer[0]
        shape = (len(rows), *rows[0].shape) if isinstance(rows, list) else tuple(rows.shape)
        self._shapes[self._ordinal : self._ordinal + 1] = [shape]
        self._ordinal += 1

    def blank(self, call: Call) -> Any:
        """Return zeros in the shape that the denoiser's answer would have; raises BadCheckpoint when none is known."""
        if self._ordinal >= len(self._shapes):
            raise BadCheckpoint("it is of a pipeline that asks its denoiser less often")
        shape = self._shapes[self._ordinal]
        self._ordinal += 1
        like = {"device": call.module.device, "dtype": call.module.dtype}
        if isinstance((*call.args, *call.kwargs.values())[0], list):  # a denoiser that takes and gives lists of rows
            blank: Any = [torch.zeros(shape[1:], **like) for _ in range(shape[0])]
        else:
            blank = torch.zeros(shape, **like)
        return (blank,) if call.kwargs.get("return_dict") is False else UNet2DConditionOutput(sample=blank)

    def restore(self, latents: torch.Tensor | None) -> torch.Tensor:
        """Put sampler and noise where they were; returns the latents, of the kind that the call has now."""
        checkpoint = self._checkpoint
        assert checkpoint is not None
        restore_sampler(self._scheduler, checkpoint.sampler)
        restore_noise(self._noise, checkpoint.noise)
        if latents is not None and latents.shape != checkpoint.latents.shape:
            raise BadCheckpoint("its latents have another shape")
        like = checkpoint.latents if latents is None else latents
        return checkpoint.latents.to(like.device, like.dtype)

    def save(self, fingerprint: str, step: int, total: int, latents: torch.Tensor) -> Checkpoint | None:
        """Return a checkpoint after this step, None for a sampler whose state cannot be kept."""
        if "old_pred_original_sample" in inspect.signature(type(self._scheduler).step).parameters:
            return None  # its pipelines carry a part of its state from step to step themselves
        try:
            sampler = sampler_state(self._scheduler)
        except NotPlain:
            return None
        kept = latents.detach().to("cpu", copy=True)
        return Checkpoint(fingerprint, step, total, kept, sampler, noise_states(self._noise), tuple(self._shapes))
