"""The command line: `python -m services.modelserver.default_model.training --stage all --work FOLDER`."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from libs.telemetry import logs
from services.modelserver.default_model.training.autoencoder import AutoencoderPlan
from services.modelserver.default_model.training.pictures import Collection
from services.modelserver.default_model.training.train import Run, judge_pipeline, train_autoencoder, train_unet
from services.modelserver.default_model.training.unet import UnetPlan

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that are asked for."""
    args = _parser().parse_args(arguments)
    run = _run(args)
    run.work.mkdir(parents=True, exist_ok=True)
    if args.stage in ("autoencoder", "all") and not run.start_from:
        train_autoencoder(run)
    if args.stage in ("unet", "all"):
        train_unet(run)
    if args.stage in ("judge", "all"):
        _judge(args.pipeline or run.pipeline_folder, run.device, args.judged)


def _judge(folder: Path, device: torch.device, judged: int) -> None:
    score = judge_pipeline(folder, device, singles=judged, relations=judged)
    log.info("single shapes: %d of %d right", score.singles_right, score.singles)
    log.info("two in relation: %d of %d right", score.relations_right, score.relations)
    for prompt in score.wrong:  # our own made-up prompts, nobody's
        log.info("wrong: %s", prompt)


def _run(args: argparse.Namespace) -> Run:
    share = args.emoji_share if args.emoji else 0.0
    return Run(
        work=args.work,
        device=torch.device(args.device),
        resume=args.resume,
        start_from=args.start_from,
        collection=Collection(args.pictures, args.emoji, share, args.processes),
        autoencoder=AutoencoderPlan(steps=args.autoencoder_steps),
        unet=UnetPlan(steps=args.unet_steps, batch=args.batch),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="training", description="Train and judge the default model.")
    parser.add_argument("--stage", choices=("autoencoder", "unet", "judge", "all"), default="all")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and results")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in the work folder")
    parser.add_argument("--start-from", type=Path, help="train the weights of this pipeline folder further")
    parser.add_argument("--pictures", type=int, default=Collection().count)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that draw pictures")
    parser.add_argument("--autoencoder-steps", type=int, default=AutoencoderPlan().steps)
    parser.add_argument("--unet-steps", type=int, default=UnetPlan().steps)
    parser.add_argument("--batch", type=int, default=UnetPlan().batch, help="of the UNet stage")
    parser.add_argument("--emoji", type=Path, help="folder of PNG files named in words, like red_apple.png")
    parser.add_argument("--emoji-share", type=float, default=0.1, help="of the pictures, where --emoji is given")
    parser.add_argument("--pipeline", type=Path, help="folder to judge instead of the one in the work folder")
    parser.add_argument("--judged", type=int, default=100, help="prompts of each kind")
    return parser


if __name__ == "__main__":
    logs.start("training", "info", "text")
    main()
