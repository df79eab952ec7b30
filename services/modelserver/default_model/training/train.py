"""The stages in order, each from and into the work folder.

autoencoder  pictures        → autoencoder/
unet         autoencoder/    → latents.pt, pipeline/
judge        pipeline/       → the share of held-out prompts that are drawn right
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from services.modelserver.default_model.training.autoencoder import AutoencoderPlan, AutoencoderStage, encode_pictures
from services.modelserver.default_model.training.checkpoint import run_stage
from services.modelserver.default_model.training.emoji import load_emoji
from services.modelserver.default_model.training.evaluate import Drawing, draw_and_judge, load_pipeline
from services.modelserver.default_model.training.judge import held_out_prompts
from services.modelserver.default_model.training.pictures import Collection, draw_chunks
from services.modelserver.default_model.training.text import build_text_encoder, token_ids, train_tokenizer
from services.modelserver.default_model.training.unet import (
    Denoiser,
    LatentSet,
    UnetPlan,
    UnetStage,
    build_noise_schedule,
    build_unet,
)
from services.modelserver.default_model.training.untyped import (
    AutoencoderModel,
    AutoencoderTiny,
    StableDiffusionPipeline,
    Tokenizer,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """One training run. `start_from` is a pipeline folder whose weights are trained on instead of new ones."""

    work: Path
    device: torch.device
    resume: bool = False
    start_from: Path | None = None
    collection: Collection = field(default_factory=Collection)
    autoencoder: AutoencoderPlan = field(default_factory=AutoencoderPlan)
    unet: UnetPlan = field(default_factory=UnetPlan)

    @property
    def autoencoder_folder(self) -> Path:
        """Where the finished autoencoder is."""
        return self.start_from / "vae" if self.start_from else self.work / "autoencoder"

    @property
    def pipeline_folder(self) -> Path:
        """Where the finished pipeline goes."""
        return self.work / "pipeline"


@dataclass(frozen=True, slots=True)
class Score:
    """How many of the held-out prompts were drawn right, and the prompts that were not."""

    singles: int
    singles_right: int
    relations: int
    relations_right: int
    wrong: tuple[str, ...]


def train_autoencoder(run: Run) -> float:
    """Train and save the autoencoder; return its PSNR in dB."""
    pixels = np.concatenate([chunk.pixels for chunk in draw_chunks(run.collection)])
    stage = AutoencoderStage(run.autoencoder, pixels, run.device)
    run_stage(stage, run.work / "autoencoder.checkpoint", resume=run.resume)
    psnr_db = stage.finish()
    stage.model.save_pretrained(run.work / "autoencoder")
    log.info("autoencoder saved", extra={"psnr_db": round(psnr_db, 2)})
    return psnr_db


def train_unet(run: Run) -> None:
    """Train UNet and text encoder on latents and save the pipeline."""
    autoencoder = AutoencoderTiny.from_pretrained(run.autoencoder_folder, dtype=torch.float32).eval()
    autoencoder.to(run.device, memory_format=torch.channels_last)
    captions, latents = _latents(run, autoencoder)
    tokenizer, denoiser = _models(run, captions)
    data = LatentSet(latents, token_ids(tokenizer, captions), token_ids(tokenizer, [""])[0])
    stage = UnetStage(run.unet, denoiser, data, run.device)
    run_stage(stage, run.work / "unet.checkpoint", resume=run.resume)
    with stage.averaged() as averaged:
        save_pipeline(run.pipeline_folder, autoencoder, tokenizer, averaged)
    log.info("pipeline saved", extra={"samples": run.unet.steps * run.unet.batch})


def judge_pipeline(folder: Path, device: torch.device, *, singles: int, relations: int, seed: int = 11) -> Score:
    """Draw held-out prompts with fixed seeds and count the right ones."""
    prompts = held_out_prompts(seed, singles, relations)
    judged = list(draw_and_judge(load_pipeline(folder, device), prompts, Drawing()))
    right = [each.verdict.right for each in judged]
    wrong = tuple(each.asked.prompt for each in judged if not each.verdict.right)
    return Score(singles, sum(right[:singles]), relations, sum(right[singles:]), wrong)


def save_pipeline(folder: Path, autoencoder: AutoencoderModel, tokenizer: Tokenizer, denoiser: Denoiser) -> None:
    """Write a StableDiffusionPipeline folder in half precision; the models that are passed in stay as they are."""
    halved = [copy.deepcopy(m).half().eval() for m in (autoencoder, denoiser.text_encoder, denoiser.unet)]
    pipeline = StableDiffusionPipeline(
        vae=halved[0],
        text_encoder=halved[1],
        tokenizer=tokenizer,
        unet=halved[2],
        scheduler=build_noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def _latents(run: Run, autoencoder: AutoencoderModel) -> tuple[list[str], torch.Tensor]:
    """Draw and encode the pictures chunk by chunk, once a run: a resumed one reads them back."""
    kept = run.work / "latents.pt"
    if run.resume and kept.exists():
        saved = torch.load(kept, weights_only=True)
        if len(saved["captions"]) != run.collection.count:
            raise ValueError(f"{kept.name} holds {len(saved['captions'])} pictures, not {run.collection.count}")
        return saved["captions"], saved["latents"]
    captions, latents = [], []
    for chunk in draw_chunks(run.collection):
        captions += chunk.captions
        latents.append(encode_pictures(autoencoder, chunk.pixels))
    scratch = kept.with_suffix(".part")
    torch.save({"captions": captions, "latents": torch.cat(latents)}, scratch)
    scratch.replace(kept)
    return captions, torch.cat(latents)


def _models(run: Run, captions: list[str]) -> tuple[Tokenizer, Denoiser]:
    torch.manual_seed(run.unet.seed)
    if run.start_from:
        pipeline = load_pipeline(run.start_from, run.device)
        return pipeline.tokenizer, Denoiser(pipeline.unet, pipeline.text_encoder)
    folder = run.collection.emoji_folder
    tokenizer = train_tokenizer(captions, [emoji.name for emoji in load_emoji(folder)] if folder else ())
    return tokenizer, Denoiser(build_unet(), build_text_encoder(tokenizer))
