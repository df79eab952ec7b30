"""Captioned pictures in number, drawn by several processes in chunks that a seed names."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.modelserver.default_model.training.emoji import Emoji, emoji_picture, load_emoji
from services.modelserver.default_model.training.outlines import SIDE
from services.modelserver.default_model.training.scenes import render, sample_example

CHUNK = 1_000
FIRST_SEED = 5_000


@dataclass(frozen=True, slots=True)
class Collection:
    """Which pictures to draw: as many as `count`, `emoji_share` of them from `emoji_folder` where there is one."""

    count: int = 50_000
    emoji_folder: Path | None = None
    emoji_share: float = 0.0
    processes: int = 2


@dataclass(frozen=True, slots=True)
class Pictures:
    """Captions with their pixels, uint8 [count, SIDE, SIDE, 3]."""

    captions: list[str]
    pixels: NDArray[np.uint8]


def draw_pictures(seed: int, count: int, emoji: list[Emoji], emoji_share: float) -> Pictures:
    """Draw `count` pictures; the same arguments give the same pictures."""
    rng = random.Random(seed)
    captions, pixels = [], np.empty((count, SIDE, SIDE, 3), np.uint8)
    for i in range(count):
        if rng.random() < emoji_share:
            caption, image = emoji_picture(rng, emoji)
        else:
            example = sample_example(rng)
            caption, image = example.caption, render(example.scene, example.spots, rng)
        captions.append(caption)
        pixels[i] = np.asarray(image)
    return Pictures(captions, pixels)


def draw_chunks(collection: Collection) -> Iterator[Pictures]:
    """Yield the pictures of `collection` in chunks, always in the same order."""
    sizes = [min(CHUNK, collection.count - start) for start in range(0, collection.count, CHUNK)]
    seeds = range(FIRST_SEED, FIRST_SEED + len(sizes))
    if collection.processes <= 1:
        yield from map(_draw_chunk, seeds, sizes, repeat(collection))
        return
    with ProcessPoolExecutor(collection.processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_draw_chunk, seeds, sizes, repeat(collection))


def _draw_chunk(seed: int, count: int, collection: Collection) -> Pictures:
    emoji = load_emoji(collection.emoji_folder) if collection.emoji_folder else []
    return draw_pictures(seed, count, emoji, collection.emoji_share if emoji else 0.0)
