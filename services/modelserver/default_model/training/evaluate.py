"""Puts a pipeline folder before the judge, on prompts that were never trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from services.modelserver.default_model.training.judge import HeldOut, Verdict, judge
from services.modelserver.default_model.training.untyped import DiffusionPipeline, Pipeline


@dataclass(frozen=True, slots=True)
class Drawing:
    """How the pictures are drawn; picture i starts from noise of seed `first_seed` + i."""

    steps: int = 20
    guidance_scale: float = 2.5
    first_seed: int = 1_000
    batch: int = 16


@dataclass(frozen=True, slots=True)
class Judged:
    """A prompt, its picture and what is right about it."""

    asked: HeldOut
    image: Image.Image
    verdict: Verdict


def load_pipeline(folder: Path, device: torch.device) -> Pipeline:
    """Load a pipeline folder in float32, from disk only. Raises OSError when a file is missing."""
    pipeline = DiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def draw_and_judge(pipeline: Pipeline, prompts: Sequence[HeldOut], how: Drawing) -> Iterator[Judged]:
    """Yield every prompt with its picture and verdict, in order."""
    for start in range(0, len(prompts), how.batch):
        asked = prompts[start : start + how.batch]
        seeds = range(how.first_seed + start, how.first_seed + start + len(asked))
        drawn = pipeline(
            [each.prompt for each in asked],
            num_inference_steps=how.steps,
            guidance_scale=how.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )
        for each, image in zip(asked, drawn.images, strict=True):
            yield Judged(each, image, judge(image, each.scene))
