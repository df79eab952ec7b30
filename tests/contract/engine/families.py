"""A pipeline of each family with a few thousand random weights, in the standard folder layout with a darkroom.toml.

The weights are scaled so that the denoiser's output is as large as its input and the decoder uses the whole range of
levels: a wrong row, timestep or prompt then shows in the picture instead of drowning in what the initial noise alone
would give.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import diffusers as d
import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from services.modelserver.samplers import samplers_of
from tests.contract.engine.tiny_text import HIDDEN, clip, qwen3, qwen_vl, t5

SIZES = ((32, 32), (48, 32))  # width × height in pixels, two buckets
FRAMES = {"animatediff": 4, "svd": 3, "wan": 5}
_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_DESCRIPTION = """
[defaults]
width = 32
height = 32
steps = 3
guidance_scale = 4.0
{frames}
[limits]
min_size = 16
max_size = 64
max_pixels = 4096
size_step = 8
samplers = {samplers}
"""


def save_family(name: str, folder: Path, seed: int = 0) -> Path:
    """Write the pipeline of a family and its description into `folder`; the same seed writes the same weights."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        pipe = FAMILIES[name]()
        _use_whole_range(name, pipe)
    pipe.save_pretrained(folder)
    (folder / "darkroom.toml").write_text(_description(name, type(pipe.scheduler).__name__))
    return folder


def _description(name: str, scheduler: str) -> str:
    # SVD's noise levels are its scheduler's own; others do not stand in for it.
    samplers = ("native",) if name == "svd" else samplers_of(scheduler)
    frames = f"frames = {FRAMES[name]}" if name in FRAMES else ""
    return _DESCRIPTION.format(samplers=json.dumps(samplers), frames=frames)


def _vae(channels: int, **more: Any) -> d.AutoencoderKL:
    return d.AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=channels, norm_num_groups=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **more,
    )  # fmt: skip


def _flow_vae(channels: int = 4) -> d.AutoencoderKL:
    return _vae(channels, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5)


def _unet(**more: Any) -> d.UNet2DConditionModel:
    return d.UNet2DConditionModel(**{
        "sample_size": 16, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4,
        "cross_attention_dim": HIDDEN, "attention_head_dim": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), **more,
    })  # fmt: skip


def _sd15() -> Any:
    text_encoder, tokenizer = clip()
    return d.StableDiffusionPipeline(
        vae=_vae(4), text_encoder=text_encoder, tokenizer=tokenizer, unet=_unet(),
        scheduler=d.PNDMScheduler(**_NOISE, skip_prk_steps=True, steps_offset=1), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _sd2_v() -> Any:
    text_encoder, tokenizer = clip()
    return d.StableDiffusionPipeline(
        vae=_vae(4), text_encoder=text_encoder, tokenizer=tokenizer, unet=_unet(use_linear_projection=True),
        scheduler=d.DDIMScheduler(**_NOISE, steps_offset=1, clip_sample=False, set_alpha_to_one=False,
                                  prediction_type="v_prediction"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _sdxl() -> Any:
    (first, first_tokens), (second, second_tokens) = clip(), clip(projection=HIDDEN)
    unet = _unet(
        cross_attention_dim=2 * HIDDEN, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + HIDDEN, use_linear_projection=True,
        transformer_layers_per_block=(1, 2), attention_head_dim=(2, 4),
    )  # fmt: skip
    return d.StableDiffusionXLPipeline(
        vae=_vae(4, scaling_factor=0.13), text_encoder=first, text_encoder_2=second, tokenizer=first_tokens,
        tokenizer_2=second_tokens, unet=unet, scheduler=d.EulerDiscreteScheduler(**_NOISE, steps_offset=1),
        add_watermarker=False,
    )  # fmt: skip


def _sd3() -> Any:
    (first, first_tokens), (second, second_tokens) = clip(8, projection=8), clip(8, projection=8)
    third, third_tokens = t5(HIDDEN)
    transformer = d.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, caption_projection_dim=16, joint_attention_dim=HIDDEN, pooled_projection_dim=16,
        pos_embed_max_size=32,
    )  # fmt: skip
    return d.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=_flow_vae(16),
        text_encoder=first, tokenizer=first_tokens, text_encoder_2=second, tokenizer_2=second_tokens,
        text_encoder_3=third, tokenizer_3=third_tokens,
    )  # fmt: skip


def _flux() -> Any:
    (first, first_tokens), (second, second_tokens) = clip(), t5(HIDDEN)
    transformer = d.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=HIDDEN, pooled_projection_dim=HIDDEN, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    return d.FluxPipeline(
        transformer=transformer, scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_flow_vae(), text_encoder=first, tokenizer=first_tokens, text_encoder_2=second,
        tokenizer_2=second_tokens,
    )  # fmt: skip


def _qwen() -> Any:
    text_encoder, tokenizer = qwen_vl()
    transformer = d.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=HIDDEN, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = d.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[1.0, 1.2, 0.9, 1.1],
    )  # fmt: skip
    scheduler = d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return d.QwenImagePipeline(
        transformer=transformer, scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer
    )


def _zimage() -> Any:
    text_encoder, tokenizer = qwen3()
    transformer = d.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=HIDDEN,
        axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    return d.ZImagePipeline(
        transformer=transformer, scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=_flow_vae(),
        text_encoder=text_encoder, tokenizer=tokenizer,
    )  # fmt: skip


def _animatediff() -> Any:
    text_encoder, tokenizer = clip()
    motion = d.MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4,
        use_motion_mid_block=True, motion_max_seq_length=8,
    )  # fmt: skip
    return d.AnimateDiffPipeline(
        vae=_vae(4), text_encoder=text_encoder, tokenizer=tokenizer, unet=_unet(), motion_adapter=motion,
        scheduler=d.DDIMScheduler(**{**_NOISE, "beta_schedule": "linear"}, steps_offset=1, clip_sample=False),
    )  # fmt: skip


def _svd() -> Any:
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=224,
        patch_size=32, projection_dim=HIDDEN,
    )  # fmt: skip
    unet = d.UNetSpatioTemporalConditionModel(
        sample_size=16, in_channels=8, out_channels=4, block_out_channels=(32, 32), layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24, num_attention_heads=2, cross_attention_dim=HIDDEN, num_frames=4,
    )  # fmt: skip
    vae = d.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), latent_channels=4, layers_per_block=1, down_block_types=("DownEncoderBlock2D",) * 2
    )
    scheduler = d.EulerDiscreteScheduler(
        **_NOISE, prediction_type="v_prediction", use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0,
        timestep_type="continuous", timestep_spacing="leading", interpolation_type="linear", steps_offset=1,
    )  # fmt: skip
    return d.StableVideoDiffusionPipeline(
        vae=vae, image_encoder=CLIPVisionModelWithProjection(vision), unet=unet, scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(crop_size=224, size={"shortest_edge": 224}),
    )  # fmt: skip


def _wan() -> Any:
    text_encoder, tokenizer = t5(HIDDEN, multilingual=True)
    transformer = d.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=HIDDEN, freq_dim=16,
        ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    vae = d.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[1.0, 1.2, 0.9, 1.1], scale_factor_spatial=4,
        scale_factor_temporal=2,
    )  # fmt: skip
    return d.WanPipeline(
        transformer=transformer, scheduler=d.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae,
        text_encoder=text_encoder, tokenizer=tokenizer,
    )  # fmt: skip


FAMILIES: Mapping[str, Callable[[], Any]] = {
    "sd15": _sd15, "sd2_v": _sd2_v, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux, "qwen": _qwen, "zimage": _zimage,
    "animatediff": _animatediff, "svd": _svd, "wan": _wan,
}  # fmt: skip


_GAIN = 1.6  # of the denoiser's matrices: as initialised, prompt and timestep hardly reach the output of some families
_WANTED = {"denoiser": 0.7, "decoder": 0.5}  # standard deviations of the outputs; noise has 1, levels go from -1 to 1


def _use_whole_range(name: str, pipe: Any) -> None:
    denoiser = getattr(pipe, "transformer", None) or pipe.unet
    for weights in denoiser.parameters():
        if weights.ndim > 1:
            weights.mul_(_GAIN)
    watched = {"denoiser": denoiser, "decoder": pipe.vae.decoder}
    pipe.set_progress_bar_config(disable=True)
    with ExitStack() as stack:
        spreads = {part: stack.enter_context(_spread(module)) for part, module in watched.items()}
        pipe(**least_arguments(name), num_inference_steps=2, width=32, height=32)
    for part, module in watched.items():
        for weights in _last_layer(module).parameters():
            weights.mul_(_WANTED[part] / float(np.mean(spreads[part])))


def least_arguments(name: str) -> dict[str, Any]:
    """Return what a family's pipeline cannot be called without, and little of it."""
    frames = {"num_frames": FRAMES[name]} if name in FRAMES else {}
    if name == "svd":
        return {**frames, "image": Image.new("RGB", (32, 32), (200, 30, 90)), "decode_chunk_size": 2}
    return {**frames, "prompt": "a red circle"}


@contextmanager
def _spread(module: torch.nn.Module) -> Generator[list[float]]:
    """Collect the standard deviations of a module's outputs."""
    seen: list[float] = []

    def look(_module: Any, _inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
        rows = torch.stack(first) if isinstance(first, list) else first
        seen.append(float(rows.std()))

    hook = module.register_forward_hook(look)
    yield seen
    hook.remove()


def _last_layer(module: Any) -> Any:
    if isinstance(module, d.ZImageTransformer2DModel):
        return module.all_final_layer["2-1"].linear
    for name in ("time_conv_out", "conv_out", "proj_out"):
        if hasattr(module, name):
            return getattr(module, name)
    raise LookupError(type(module).__name__)
