"""Emoji beside the shapes, when a folder of them is given: one PNG each, named in words (`red_apple.png`)."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from services.modelserver.default_model.training.outlines import SIDE
from services.modelserver.default_model.training.scenes import BACKGROUNDS, near, sample_background, with_article

LEAST_PX, MOST_PX = 90, 100
WOBBLE_PX = 3


@dataclass(frozen=True, slots=True)
class Emoji:
    """A name and an RGBA picture."""

    name: str
    image: Image.Image


def load_emoji(folder: Path) -> list[Emoji]:
    """Read every PNG in `folder`, in the order of names. Raises ValueError when there is none."""
    found = [Emoji(_name(path), Image.open(path).convert("RGBA")) for path in sorted(folder.glob("*.png"))]
    if not found:
        raise ValueError(f"no PNG files in {folder}")
    return found


def emoji_picture(rng: random.Random, emoji: list[Emoji]) -> tuple[str, Image.Image]:
    """Draw one emoji near the middle of a background; return its caption and the picture."""
    chosen = rng.choice(emoji)
    background, background_words = sample_background(rng)
    side = int(rng.uniform(LEAST_PX, MOST_PX))
    stamp = chosen.image.resize((side, side), Image.Resampling.BICUBIC)
    picture = Image.new("RGB", (SIDE, SIDE), near(BACKGROUNDS[background], rng, spread=3))
    corner = (SIDE - side) // 2
    spot = corner + rng.randint(-WOBBLE_PX, WOBBLE_PX), corner + rng.randint(-WOBBLE_PX, WOBBLE_PX)
    picture.paste(stamp, spot, stamp)
    named = with_article(chosen.name)
    return rng.choice((named, chosen.name, f"{named} emoji")) + background_words, picture


def _name(path: Path) -> str:
    words = re.sub(r"[^a-z ]", "", re.sub(r"[-_]", " ", path.stem.lower())).split()
    if not words:
        raise ValueError(f"{path.name} names no word")
    return " ".join(words)
