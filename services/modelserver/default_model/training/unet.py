"""Stage two: UNet and text encoder learn together to take the noise out of latents, told by captions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from services.modelserver.default_model.training.autoencoder import LATENT_CHANNELS
from services.modelserver.default_model.training.checkpoint import step_generator
from services.modelserver.default_model.training.text import TEXT_WIDTH
from services.modelserver.default_model.training.untyped import (
    EulerDiscreteScheduler,
    NoiseSchedule,
    TextModel,
    UNet2DConditionModel,
    UnetModel,
)

TIMESTEPS = 1_000


@dataclass(frozen=True, slots=True)
class UnetPlan:
    """How the UNet is trained; `ema` is the share of the running average that a step keeps."""

    steps: int = 7_600
    batch: int = 64
    learning_rate: float = 7e-4
    warmup_steps: int = 100
    flat_share: float = 0.4
    last_rate_share: float = 0.02
    ema: float = 0.995
    unprompted_share: float = 0.1
    seed: int = 11

    def rate_at(self, step: int) -> float:
        """The learning rate: a short rise, flat, then a cosine down to `last_rate_share`."""
        done = step / self.steps
        falling = 0.5 * (1 + math.cos(math.pi * (done - self.flat_share) / (1 - self.flat_share)))
        share = 1.0 if done < self.flat_share else max(self.last_rate_share, falling)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup_steps) * share


@dataclass(frozen=True, slots=True)
class Denoiser:
    """The two models that are trained together."""

    unet: UnetModel
    text_encoder: TextModel

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters of both, always in the same order."""
        return [*self.unet.parameters(), *self.text_encoder.parameters()]


@dataclass(frozen=True, slots=True)
class LatentSet:
    """What is learned from: latents [n, 4, h, w], token ids [n, tokens], and the ids of the empty prompt [tokens]."""

    latents: torch.Tensor
    ids: torch.Tensor
    empty_ids: torch.Tensor


class UnetStage:
    """Trains `denoiser` by v-prediction on every noise level alike."""

    def __init__(self, plan: UnetPlan, denoiser: Denoiser, data: LatentSet, device: torch.device) -> None:
        self._plan, self._data, self._device = plan, data, device
        self.denoiser = denoiser
        denoiser.unet.to(device, memory_format=torch.channels_last).train()
        denoiser.text_encoder.to(device).train()
        self._signal = build_noise_schedule().alphas_cumprod.float().to(device)
        self._parameters = [p.requires_grad_() for p in denoiser.parameters()]
        self._average = [p.detach().clone() for p in self._parameters]
        self._optimiser = torch.optim.AdamW(self._parameters, betas=(0.9, 0.99), weight_decay=0.01)

    @property
    def plan(self) -> dict[str, Any]:
        return asdict(self._plan)

    @property
    def total_steps(self) -> int:
        return self._plan.steps

    def advance(self, step: int) -> float:
        self._optimiser.param_groups[0]["lr"] = self._plan.rate_at(step)
        loss = self._loss(step_generator(self._plan.seed, step))
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimiser.step()
        kept = min(self._plan.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, [p.detach() for p in self._parameters], 1 - kept)
        return float(loss.item())

    def state(self) -> dict[str, Any]:
        return {
            "unet": self.denoiser.unet.state_dict(),
            "text_encoder": self.denoiser.text_encoder.state_dict(),
            "average": self._average,
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.denoiser.unet.load_state_dict(state["unet"])
        self.denoiser.text_encoder.load_state_dict(state["text_encoder"])
        for mine, saved in zip(self._average, state["average"], strict=True):
            mine.copy_(saved)
        self._optimiser.load_state_dict(state["optimiser"])

    @contextmanager
    def averaged(self) -> Iterator[Denoiser]:
        """Lend the models with the averaged weights in them, which draw better than the latest."""
        latest = [p.detach().clone() for p in self._parameters]
        self._write(self._average)
        try:
            yield self.denoiser
        finally:
            self._write(latest)

    def _loss(self, random: torch.Generator) -> torch.Tensor:
        batch, device = self._plan.batch, self._device
        chosen = torch.randint(len(self._data.latents), (batch,), generator=random)
        ids = self._data.ids[chosen]
        ids[torch.rand(batch, generator=random) < self._plan.unprompted_share] = self._data.empty_ids
        latents = self._data.latents[chosen].to(device)
        noise = torch.randn(latents.shape, generator=random).to(device)
        levels = spread_timesteps(batch, random).to(device)
        signal = self._signal[levels].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * latents
        with torch.autocast(device.type, torch.bfloat16):
            words = self.denoiser.text_encoder(ids.to(device))[0]
            told = self.denoiser.unet(
                noisy.contiguous(memory_format=torch.channels_last), levels, words, return_dict=False
            )[0]
        error: torch.Tensor = (told.float() - velocity).pow(2).mean()
        return error

    @torch.no_grad()
    def _write(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)


def spread_timesteps(batch: int, random: torch.Generator) -> torch.Tensor:
    """Draw one timestep from each of `batch` equal parts of the schedule, shuffled: steadier than free draws."""
    levels = ((torch.arange(batch) + torch.rand(batch, generator=random)) * TIMESTEPS / batch).long()
    return levels.clamp(0, TIMESTEPS - 1)[torch.randperm(batch, generator=random)]


def build_noise_schedule() -> NoiseSchedule:
    """Make the schedule. Linear betas end in pure noise, without which a solid background cannot be drawn."""
    return EulerDiscreteScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def build_unet() -> UnetModel:
    """Make the untrained model, 7.57 M parameters."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 96, 160),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
