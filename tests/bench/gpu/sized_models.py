"""Models of real size with random weights, made without a network: SDXL's and Flux's own configurations.

Denoisers and VAEs are those of the released models, number for number; text encoders are of two layers, since prompts
are encoded once and kept, but give as many tokens of as many channels as the real ones. The weights are filled in on
the device itself, so that 24 GB need neither disk nor host. What a pass costs does not hang on what they were trained
for; they are random and not zero, because zeros let a GPU run cooler and faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers as d
import torch

from libs.generation.model import Model, ModelDefaults, ModelLimits
from services.modelserver.engine.device import Device
from services.modelserver.engine.loading import LoadedModel, denoiser_of, weight_bytes
from services.modelserver.engine.wants import Load
from services.modelserver.models import ModelFolder
from tests.contract.engine.tiny_text import clip, t5

SDXL_UNET: Mapping[str, Any] = {
    "sample_size": 128, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048, "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
FLUX_TRANSFORMER: Mapping[str, Any] = {
    "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
_VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 1024,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "force_upcast": False,
}  # fmt: skip
SDXL_VAE = {**_VAE, "latent_channels": 4, "scaling_factor": 0.13025}
FLUX_VAE = {
    **_VAE, "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
_CLIP_TOKENS = 77
_SPREAD = 0.02  # of weights: outputs of layers with a thousand inputs are then about as large as the inputs
_GB = 10**9

Build = Callable[[torch.device, torch.dtype], Any]  # returns a pipeline on the device


@dataclass(frozen=True, slots=True)
class SizedModel:
    """A model to measure. `guided` has two rows a picture; `bare` has one."""

    id: str
    title: str
    build: Build
    guided: float  # guidance scale of a usual request
    bare: float
    least_bytes: int = 0  # of device memory to measure it with
    file_bytes: int = 0


def sdxl(device: torch.device, dtype: torch.dtype) -> Any:
    """Return an SDXL pipeline."""
    (first, first_tokens), (second, second_tokens) = _clip(768), _clip(1280, projection=1280)
    scheduler = d.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    pipe = d.StableDiffusionXLPipeline(
        unet=random_module(d.UNet2DConditionModel, SDXL_UNET, device, dtype),
        vae=random_module(d.AutoencoderKL, SDXL_VAE, device, dtype), scheduler=scheduler,
        text_encoder=first, tokenizer=first_tokens, text_encoder_2=second, tokenizer_2=second_tokens,
        add_watermarker=False,
    )  # fmt: skip
    return _ready(pipe, device, dtype)


def flux(device: torch.device, dtype: torch.dtype) -> Any:
    """Return a Flux pipeline, the kind with distilled guidance."""
    (first, first_tokens), (second, second_tokens) = _clip(768), t5(4096)
    pipe = d.FluxPipeline(
        transformer=random_module(d.FluxTransformer2DModel, FLUX_TRANSFORMER, device, dtype),
        vae=random_module(d.AutoencoderKL, FLUX_VAE, device, dtype),
        scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        text_encoder=first, tokenizer=first_tokens, text_encoder_2=second, tokenizer_2=second_tokens,
    )  # fmt: skip
    return _ready(pipe, device, dtype)


def _tiny(name: str) -> Build:
    def build(device: torch.device, dtype: torch.dtype) -> Any:
        from tests.contract.engine.families import FAMILIES  # says something when imported, which real ones need not

        return _ready(FAMILIES[name](), device, dtype)

    return build


REAL = (
    SizedModel("sdxl", "SDXL-sized", sdxl, 5.0, 1.0, least_bytes=16 * _GB, file_bytes=6 * _GB),
    SizedModel("flux", "Flux-sized", flux, 3.5, 3.5, least_bytes=40 * _GB, file_bytes=25 * _GB),
)
TINY = (
    SizedModel("sdxl", "tiny SDXL", _tiny("sdxl"), 5.0, 1.0),
    SizedModel("flux", "tiny Flux", _tiny("flux"), 3.5, 3.5),
)


def folder_of(model: SizedModel, path: Path, pipeline: str = "") -> ModelFolder:
    """Return a model as the engine knows it; `path` and class of pipeline matter only to who reads files."""
    limits = ModelLimits(min_size=16, max_steps=1000)
    defaults = ModelDefaults(guidance_scale=model.guided)
    return ModelFolder(path, Model(model.id, "random", pipeline, limits=limits, defaults=defaults))


def loader(models: Sequence[SizedModel], device: Device) -> Load:
    """Return what to give an engine in place of reading files."""
    by_id = {model.id: model for model in models}

    def load(folder: ModelFolder, dtype: torch.dtype, tell: Callable[[float], None]) -> LoadedModel:
        pipe = by_id[folder.model.id].build(device.torch, dtype)
        tell(1.0)
        return LoadedModel(folder, pipe, denoiser_of(pipe), weight_bytes(pipe))

    return load


def random_module(kind: Any, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    """Return a module of diffusers with random weights, made where it is to be."""
    with torch.device("meta"):
        module = kind(**config)
    assert not list(module.buffers()), "what was computed when it was made would be lost"
    module.to(dtype).to_empty(device=device)
    noise = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, weights in module.named_parameters():
            if weights.ndim > 1:
                weights.normal_(0.0, _SPREAD, generator=noise)
            else:
                weights.fill_(1.0 if name.endswith("weight") else 0.0)
    return module


def _clip(hidden: int, projection: int = 0) -> tuple[Any, Any]:
    encoder, tokenizer = clip(hidden, projection)
    encoder.config.max_position_embeddings = tokenizer.model_max_length = _CLIP_TOKENS
    return type(encoder)(encoder.config), tokenizer


def _ready(pipe: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the pipeline as loading it from files would: on the device, for drawing only, without a word."""
    pipe.to(device, dtype)
    pipe.set_progress_bar_config(disable=True)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return pipe
