"""Rough pictures while they develop: what the sampler thinks the end will be, made small and decoded now and then."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import torch

from services.modelserver.engine.protocol import Pixels

_MAX_SIDE = 32  # in latents: at most 256 pixels
_LEAST_BETWEEN_S = 0.2
_MOST_SHARE = 0.1  # of the time that drawing takes


class Previewer:
    """Watches one drawing's sampler; `pictures` is empty when it is too early for another preview."""

    def __init__(self, pipe: Any, scheduler: Any, width: int, height: int) -> None:
        """Watch `scheduler`, the drawing's own; pictures of `width` × `height` pixels are drawn."""
        self._pipe, self._width, self._height = pipe, width, height
        self._vae: Any = getattr(pipe, "vae", None)
        self._guess: torch.Tensor | None = None
        self._not_before_s = 0.0
        self._observe(scheduler)

    def pictures(self, latents: torch.Tensor) -> list[Pixels]:
        """Return a small picture of each row, or nothing: too early, or latents of another kind."""
        began_s = time.monotonic()
        shown = self._unpacked(latents if self._guess is None else self._guess)
        if began_s < self._not_before_s or self._vae is None or shown.ndim != 4:
            return []
        pictures = self._decode(shown)
        ended_s = time.monotonic()
        self._not_before_s = ended_s + max(_LEAST_BETWEEN_S, (ended_s - began_s) / _MOST_SHARE)
        return pictures

    def _unpacked(self, latents: torch.Tensor) -> torch.Tensor:
        """Return latents as channels × height × width; some transformers take them in patches, one after the other."""
        if latents.ndim != 3 or not hasattr(self._pipe, "_unpack_latents"):
            return latents
        unpacked: torch.Tensor = self._pipe._unpack_latents(
            latents, self._height, self._width, self._pipe.vae_scale_factor
        )
        return unpacked

    @torch.no_grad()
    def _decode(self, latents: torch.Tensor) -> list[Pixels]:
        factor = _MAX_SIDE / max(latents.shape[-2:])
        if factor < 1:
            latents = torch.nn.functional.interpolate(latents, scale_factor=factor, mode="area")
        config = self._vae.config
        scaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
        decoded = self._vae.decode(scaled.to(self._vae.dtype), return_dict=False)[0]
        pixels = ((decoded / 2 + 0.5).clamp(0, 1).nan_to_num() * 255).round().byte()
        return [np.ascontiguousarray(row) for row in pixels.permute(0, 2, 3, 1).cpu().numpy()]

    def _observe(self, scheduler: Any) -> None:
        """Keep the sampler's guess of the finished latents, which many samplers return beside their step."""
        step = scheduler.step

        @functools.wraps(step)  # pipelines look at the signature
        def observed(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            if isinstance(result, tuple) and len(result) > 1 and isinstance(result[1], torch.Tensor):
                self._guess = result[1]
            return result

        scheduler.step = observed
