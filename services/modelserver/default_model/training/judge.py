"""Judges by its pixels whether a picture shows a scene, and names prompts that were never trained.

Lenient on purpose where the eye is: an outline is the nearest of the eight, a background the nearest of the seven.
Not judged: sizes and places.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.modelserver.default_model.training.outlines import SHAPES, SIDE, draw_mask
from services.modelserver.default_model.training.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_PAIRS,
    RELATIONS,
    UNNAMED_BACKGROUND,
    Scene,
    Thing,
    is_held_out_relation,
    sample_thing,
    stands_out,
)

BORDER_PX = 4  # the frame whose median is the background
FOREGROUND_DISTANCE = 90  # from the background, summed over the channels
LEAST_THING_PX = 80
LEAST_SINGLE_PX = 150
LEAST_COLOUR_SHARE = 0.5  # of the foreground, for one thing alone
LEAST_OWN_SHARE = 0.75  # of the foreground that the things asked for must cover: no third thing, no litter
LEAST_OVERLAP = 0.5  # with the outline, both scaled to one box
LEAST_APART_PX = 15
TEMPLATE_SIDE = 48

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is right about a picture. `relation` is true where none was asked for."""

    background: bool
    colours: bool
    shapes: bool
    relation: bool
    tidy: bool

    @property
    def right(self) -> bool:
        """Whether everything is."""
        return self.background and self.colours and self.shapes and self.relation and self.tidy


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A prompt that was never trained, with the scene it asks for."""

    prompt: str
    scene: Scene


@dataclass(frozen=True, slots=True)
class _Outline:
    """A shape without place and size: its mask scaled to one box, and the width of its box over the height."""

    mask: Mask
    aspect: float


def judge(image: Image.Image, scene: Scene) -> Verdict:
    """Compare `image` (any mode; scaled to SIDE × SIDE when it is not) with `scene`."""
    pixels = _pixels(image)
    backdrop = _backdrop(pixels)
    foreground = np.abs(pixels - backdrop).sum(-1) > FOREGROUND_DISTANCE
    by_colour = [foreground & (_nearest(pixels, COLOURS) == list(COLOURS).index(t.colour)) for t in scene.things]
    # Alone, the whole foreground is the thing: a patch of a second colour must not change its outline.
    bodies = [_largest_part(foreground)] if len(scene.things) == 1 else [_largest_part(m) for m in by_colour]
    own_share = sum(int(body.sum()) for body in bodies) / max(1, int(foreground.sum()))
    colours = _colours_right(by_colour, bodies, foreground)
    return Verdict(
        background=list(BACKGROUNDS)[int(_nearest(backdrop, BACKGROUNDS))] == scene.background,
        colours=colours,
        shapes=all(_shape_of(body) == t.shape for body, t in zip(bodies, scene.things, strict=True)),
        relation=not scene.relation or (colours and _relation_right(scene.relation, bodies)),
        tidy=own_share >= LEAST_OWN_SHARE,
    )


def held_out_prompts(seed: int, singles: int, relations: int) -> list[HeldOut]:
    """Return `singles` prompts of a held-out pair, then `relations` of two things in a held-out relation."""
    rng, found = random.Random(seed), list[HeldOut]()
    pairs = sorted(HELD_OUT_PAIRS)
    while len(found) < singles:
        colour, shape = pairs[len(found) % len(pairs)]
        background = _background(rng, unnamed_share=0.5)
        if stands_out(colour, background):
            thing = Thing(colour, shape, rng.choice(("", "", "small", "large")))
            found.append(_held_out(Scene(background, (thing,))))
    while len(found) < singles + relations:
        background = _background(rng, unnamed_share=0.6)
        first = sample_thing(rng, background, training=True)
        second = sample_thing(rng, background, training=True, avoid=first.colour)
        relation = rng.choice(RELATIONS)
        if is_held_out_relation(first, relation, second):
            things = (Thing(first.colour, first.shape), Thing(second.colour, second.shape))
            found.append(_held_out(Scene(background, things, relation)))
    return found


def _background(rng: random.Random, *, unnamed_share: float) -> str:
    return UNNAMED_BACKGROUND if rng.random() < unnamed_share else rng.choice(tuple(BACKGROUNDS))


def _held_out(scene: Scene) -> HeldOut:
    words = f" {scene.relation} ".join(thing.words for thing in scene.things)
    named = "" if scene.background == UNNAMED_BACKGROUND else f" on a {scene.background} background"
    return HeldOut(words + named, scene)


def _pixels(image: Image.Image) -> Pixels:
    rgb = image.convert("RGB")
    if rgb.size != (SIDE, SIDE):
        rgb = rgb.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(rgb).astype(np.float64)


def _backdrop(pixels: Pixels) -> Pixels:
    inside = np.zeros(pixels.shape[:2], bool)
    inside[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = True
    middle: Pixels = np.median(pixels[~inside], axis=0)
    return middle


def _nearest(pixels: Pixels, palette: dict[str, tuple[int, int, int]]) -> NDArray[np.intp]:
    """Return the index in `palette` of the colour nearest to each pixel."""
    distance = ((pixels[..., None, :] - np.array(list(palette.values()), float)) ** 2).sum(-1)
    nearest: NDArray[np.intp] = np.argmin(distance, axis=-1)
    return nearest


def _colours_right(by_colour: list[Mask], bodies: list[Mask], foreground: Mask) -> bool:
    if len(bodies) > 1:
        return all(int(body.sum()) >= LEAST_THING_PX for body in bodies)
    seen = int(foreground.sum())
    return seen > LEAST_SINGLE_PX and int(by_colour[0].sum()) >= LEAST_COLOUR_SHARE * seen


def _relation_right(relation: str, bodies: list[Mask]) -> bool:
    (first_y, first_x), (second_y, second_x) = (np.argwhere(body).mean(axis=0) for body in bodies)
    across, down = first_x - second_x, first_y - second_y
    along, beside = (across, down) if relation in ("left of", "right of") else (down, across)
    signed = -along if relation in ("left of", "above") else along
    return bool(signed > LEAST_APART_PX and abs(along) > abs(beside))


def _shape_of(body: Mask) -> str:
    """Name the shape whose outline fits `body` best, empty when none fits."""
    found = _outline(body)
    if found is None:
        return ""
    fits = {shape: _overlap(found, template) for shape, template in _templates().items()}
    best = max(fits, key=lambda shape: fits[shape] - 0.5 * abs(np.log(found.aspect / _templates()[shape].aspect)))
    return best if fits[best] >= LEAST_OVERLAP else ""


def _overlap(one: _Outline, other: _Outline) -> float:
    return float((one.mask & other.mask).sum() / max(1, int((one.mask | other.mask).sum())))


@functools.cache
def _templates() -> dict[str, _Outline]:
    drawn = {s: _outline(np.asarray(draw_mask(s, SIDE / 2, SIDE / 2, 36)) > 127) for s in SHAPES}
    return {shape: outline for shape, outline in drawn.items() if outline is not None}


def _outline(body: Mask) -> _Outline | None:
    """Cut `body` out and scale it to the box of the templates; None when there is too little of it."""
    rows, columns = np.nonzero(body)
    if len(rows) < LEAST_THING_PX:
        return None
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    cut = Image.fromarray((body[top:bottom, left:right] * 255).astype(np.uint8))
    scaled = cut.resize((TEMPLATE_SIDE, TEMPLATE_SIDE), Image.Resampling.BOX)
    return _Outline(np.asarray(scaled) > 127, float((right - left) / (bottom - top)))


def _largest_part(mask: Mask) -> Mask:
    """Keep the largest 4-connected part of `mask`."""
    left, best = mask.copy(), np.zeros_like(mask)
    while left.sum() > best.sum():
        row, column = divmod(int(left.argmax()), left.shape[1])
        part = _part_at(left, row, column)
        left &= ~part
        if part.sum() > best.sum():
            best = part
    return best


def _part_at(mask: Mask, row: int, column: int) -> Mask:
    part, open_ends = np.zeros_like(mask), [(row, column)]
    part[row, column] = True
    while open_ends:
        y, x = open_ends.pop()
        for b, a in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if 0 <= b < mask.shape[0] and 0 <= a < mask.shape[1] and mask[b, a] and not part[b, a]:
                part[b, a] = True
                open_ends.append((b, a))
    return part
