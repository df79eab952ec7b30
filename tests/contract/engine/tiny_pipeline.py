"""A StableDiffusionPipeline of a few thousand random weights, in the standard folder layout; 32×32 pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

DESCRIPTION = """
[defaults]
width = 32
height = 32
steps = 3
[limits]
min_size = 16
max_size = 64
max_pixels = 4096
"""


def save_tiny_pipeline(folder: Path, seed: int = 0) -> Path:
    """Write the pipeline and its darkroom.toml into `folder`; the same seed writes the same weights."""
    torch.manual_seed(seed)
    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
    tokenizer.model_max_length = 16
    start, end = len(words) - 2, len(words) - 1
    text_config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=start, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=32,
                          down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2),
        text_encoder=CLIPTextModel(text_config),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(sample_size=16, in_channels=4, out_channels=4, layers_per_block=1,
                                  block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=16,
                                  attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                  up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")),
        scheduler=EulerDiscreteScheduler(steps_offset=1, timestep_spacing="trailing"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    (folder / "darkroom.toml").write_text(DESCRIPTION)
    return folder
