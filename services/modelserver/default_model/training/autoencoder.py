"""Stage one: an AutoencoderTiny that packs a picture 8 × smaller both ways into 4 channels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.modelserver.default_model.training.checkpoint import step_generator
from services.modelserver.default_model.training.untyped import AutoencoderModel, AutoencoderTiny

LATENT_CHANNELS = 4
WIDTH = 32
GRID_PX = 8  # crops start on it, as every latent covers 8 × 8 pixels
BLANK_SPREAD = 3  # a crop whose channels all vary less shows background only
VALIDATION_PICTURES = 256  # the last ones, never cropped from


@dataclass(frozen=True, slots=True)
class AutoencoderPlan:
    """How the autoencoder is trained. Crops are squares of `crop` pixels."""

    steps: int = 4_200
    batch: int = 16
    crop: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    absolute_weight: float = 0.2
    latent_weight: float = 1e-3
    latent_noise: float = 0.1
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """The learning rate: a short rise, then straight down to nearly nothing."""
        return self.learning_rate * min(1.0, (step + 1) / self.warmup_steps) * (1 - step / self.steps) + 1e-5


class AutoencoderStage:
    """Trains on crops of `pixels`, uint8 [count, SIDE, SIDE, 3]."""

    def __init__(self, plan: AutoencoderPlan, pixels: NDArray[np.uint8], device: torch.device) -> None:
        torch.manual_seed(plan.seed)
        self._plan, self._device = plan, device
        self._training = pixels[: max(1, len(pixels) - VALIDATION_PICTURES)]
        self._validation = pixels[-VALIDATION_PICTURES:]
        self.model = build_autoencoder().to(device, memory_format=torch.channels_last)
        self._optimiser = torch.optim.AdamW(self.model.parameters(), betas=(0.9, 0.99), weight_decay=0.0)

    @property
    def plan(self) -> dict[str, Any]:
        return asdict(self._plan)

    @property
    def total_steps(self) -> int:
        return self._plan.steps

    def advance(self, step: int) -> float:
        plan, random = self._plan, step_generator(self._plan.seed, step)
        wanted = to_signed(self._crops(np.random.default_rng((plan.seed, step)))).to(
            self._device, memory_format=torch.channels_last
        )
        self._optimiser.param_groups[0]["lr"] = plan.rate_at(step)
        with torch.autocast(self._device.type, torch.bfloat16):
            latents = self.model.encoder(wanted)
            noise = torch.randn(latents.shape, generator=random).to(self._device)
            drawn = self.model.decoder(latents + plan.latent_noise * noise)
        wrong = drawn.float() - wanted
        loss = wrong.pow(2).mean() + plan.absolute_weight * wrong.abs().mean()
        loss = loss + plan.latent_weight * latents.float().pow(2).mean()
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        return float(loss.item())

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimiser": self._optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])

    @torch.no_grad()
    def finish(self) -> float:
        """Set the scale that gives latents a spread of 1; return the PSNR in dB on pictures that were not trained."""
        total, latents = 0.0, []
        for start in range(0, len(self._validation), 32):
            wanted = to_signed(self._validation[start : start + 32]).to(self._device)
            latents.append(self.model.encoder(wanted))
            wrong = (self.model.decoder(latents[-1]).clamp(-1, 1) - wanted) / 2
            total += float((-10 * wrong.pow(2).mean((1, 2, 3)).log10()).sum())
        self.model.register_to_config(scaling_factor=1 / torch.cat(latents).std().item())
        return total / len(self._validation)

    def _crops(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        crops = np.empty((self._plan.batch, self._plan.crop, self._plan.crop, 3), np.uint8)
        for i, picture in enumerate(rng.integers(0, len(self._training), self._plan.batch)):
            crops[i] = self._crop(self._training[picture], rng)
            if crops[i].std((0, 1)).max() < BLANK_SPREAD:  # one more try: plain background teaches little
                crops[i] = self._crop(self._training[picture], rng)
        return crops

    def _crop(self, picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        room = (picture.shape[0] - self._plan.crop) // GRID_PX + 1
        top, left = (int(v) * GRID_PX for v in rng.integers(0, room, 2))
        return picture[top : top + self._plan.crop, left : left + self._plan.crop]


def build_autoencoder() -> AutoencoderModel:
    """Make the untrained model, 0.45 M parameters."""
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4,
        decoder_block_out_channels=(WIDTH,) * 4,
        latent_channels=LATENT_CHANNELS,
        num_encoder_blocks=(1, 1, 2, 2),
        num_decoder_blocks=(3, 2, 2, 1),
        scaling_factor=1.0,
    )


def to_signed(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Turn uint8 [n, h, w, 3] into float [n, 3, h, w] from -1 to 1, channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return tensor.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def encode_pictures(model: AutoencoderModel, pixels: NDArray[np.uint8], batch: int = 100) -> torch.Tensor:
    """Return scaled latents, float32 [n, 4, h / 8, w / 8], on the CPU."""
    device, scale, found = next(model.parameters()).device, model.config.scaling_factor, []
    for start in range(0, len(pixels), batch):
        pictures = to_signed(pixels[start : start + batch]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            found.append(model.encode(pictures).latents.float().cpu() * scale)
    return torch.cat(found)
