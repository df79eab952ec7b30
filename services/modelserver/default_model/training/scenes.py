"""The world the model is trained in: one or two flat shapes on a plain background, and what is held out of it.

Everything random comes from the `random.Random` that is passed in, so a seed names a picture for good.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from PIL import Image

from services.modelserver.default_model.training.outlines import SHAPES, SIDE, draw_mask

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (220, 38, 38),
    "green": (34, 160, 70),
    "blue": (37, 80, 220),
    "yellow": (250, 210, 40),
    "orange": (245, 130, 30),
    "purple": (130, 50, 180),
    "pink": (245, 130, 190),
    "cyan": (40, 200, 215),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
}
BACKGROUNDS: dict[str, Rgb] = {
    "sky blue": (150, 205, 245),
    "cream": (250, 235, 200),
    "navy": (20, 30, 80),
    "mint": (175, 230, 200),
    "black": (20, 20, 20),
    "gray": (128, 128, 128),
    "white": (250, 250, 250),
}
UNNAMED_BACKGROUND = "white"
# Radius in pixels of a shape alone and of one of two, by its size word. Most shapes go without a size word.
RADIUS_ALONE = {"small": 22, "": 32, "large": 44}
RADIUS_OF_TWO = {"small": 19, "": 26, "large": 31}
SIZE_WORDS = ("", "", "", "small", "large")
RELATIONS = ("left of", "right of", "above", "below")
NEAR, FAR = 0.27, 0.73  # where the two stand, as a share of the side
RELATION_SPOTS = {
    "left of": ((NEAR, 0.5), (FAR, 0.5)),
    "right of": ((FAR, 0.5), (NEAR, 0.5)),
    "above": ((0.5, NEAR), (0.5, FAR)),
    "below": ((0.5, FAR), (0.5, NEAR)),
}
CENTER = "in the center"
PLACES = {
    CENTER: (0.5, 0.5),
    "at the top": (0.5, 0.25),
    "at the bottom": (0.5, 0.75),
    "on the left": (0.25, 0.5),
    "on the right": (0.75, 0.5),
    "in the top left corner": (0.25, 0.25),
    "in the top right corner": (0.75, 0.25),
    "in the bottom left corner": (0.25, 0.75),
    "in the bottom right corner": (0.75, 0.75),
}
OFF_CENTER_SHRINK = 0.62
SINGLE_SHARE = 0.4  # the rest are scenes of two: what binds which colour to which shape is learned last
NAMED_BACKGROUND_SHARE = 0.4
PLACE_SHARE = 0.3
SILENT_BACKGROUND_SHARE = 0.001  # a background that the caption keeps to itself
LEAST_CONTRAST = 140  # sum over the channels, so that a shape can be seen at all

# Never trained, alone or as one of two: the model has to put colour and shape together by itself.
HELD_OUT_PAIRS = frozenset(
    {
        ("cyan", "heart"),
        ("orange", "crescent"),
        ("purple", "triangle"),
        ("green", "ring"),
        ("red", "cross"),
        ("blue", "star"),
        ("yellow", "square"),
    }
)
HELD_OUT_ONE_IN = 20  # of all (colour, shape, relation, colour, shape)


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape. `size` is `small`, `large` or empty."""

    colour: str
    shape: str
    size: str = ""

    @property
    def words(self) -> str:
        """The thing with its article, like `a small red circle`."""
        return with_article(" ".join(word for word in (self.size, self.colour, self.shape) if word))


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows: one thing (perhaps in a place), or two of which the first stands in `relation`."""

    background: str
    things: tuple[Thing, ...]
    relation: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a thing is drawn: centre and radius in pixels."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Example:
    """A scene laid out, with its caption."""

    scene: Scene
    spots: tuple[Spot, ...]
    caption: str


def with_article(words: str) -> str:
    """Put `a` or `an` before `words`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def stands_out(colour: str, background: str) -> bool:
    """Tell whether a shape of `colour` can be seen on `background`."""
    distance = sum(abs(a - b) for a, b in zip(COLOURS[colour], BACKGROUNDS[background], strict=True))
    return distance >= LEAST_CONTRAST


def is_held_out_relation(first: Thing, relation: str, second: Thing) -> bool:
    """Tell whether this pair of things in this relation is kept out of training. Sizes do not count."""
    key = f"{first.colour}{first.shape}{relation}{second.colour}{second.shape}"
    return zlib.crc32(key.encode()) % HELD_OUT_ONE_IN == 0


def sample_thing(rng: random.Random, background: str, *, training: bool, avoid: str = "") -> Thing:
    """Draw a thing that stands out from `background` and is not of the colour `avoid`."""
    while True:
        colour, shape = rng.choice(tuple(COLOURS)), rng.choice(SHAPES)
        if training and (colour, shape) in HELD_OUT_PAIRS:
            continue
        if stands_out(colour, background) and colour != avoid:
            return Thing(colour, shape, rng.choice(SIZE_WORDS))


def sample_example(rng: random.Random, *, training: bool = True) -> Example:
    """Draw a scene with its layout and caption; `training` keeps everything held out away."""
    background, background_words = sample_background(rng)
    if rng.random() < SINGLE_SHARE:
        scene = _sample_single(rng, background, training=training)
    else:
        scene = _sample_two(rng, background, training=training)
    spots = lay_out(scene, rng)
    return Example(scene, spots, _caption(scene, rng) + background_words)


def sample_background(rng: random.Random) -> tuple[str, str]:
    """Draw a background and the words that name it, empty when the caption does not."""
    if rng.random() >= NAMED_BACKGROUND_SHARE:
        return UNNAMED_BACKGROUND, ""
    background = rng.choice(tuple(BACKGROUNDS))
    if rng.random() >= 1 - SILENT_BACKGROUND_SHARE:
        return background, ""
    return background, rng.choice((f" on a {background} background", f" on {background}"))


def _sample_single(rng: random.Random, background: str, *, training: bool) -> Scene:
    thing = sample_thing(rng, background, training=training)
    place = rng.choice(tuple(PLACES)) if rng.random() < PLACE_SHARE else ""
    return Scene(background, (thing,), place=place)


def _sample_two(rng: random.Random, background: str, *, training: bool) -> Scene:
    while True:
        first = sample_thing(rng, background, training=training)
        second = sample_thing(rng, background, training=training, avoid=first.colour)
        relation = rng.choice(RELATIONS)
        if not (training and is_held_out_relation(first, relation, second)):
            return Scene(background, (first, second), relation)


def lay_out(scene: Scene, rng: random.Random) -> tuple[Spot, ...]:
    """Place the things of `scene`, each a few pixels and a few percent off its ideal spot."""
    if scene.relation:
        spots = zip(scene.things, RELATION_SPOTS[scene.relation], strict=True)
        return tuple(_spot(rng, where, RADIUS_OF_TWO[thing.size], wobble_px=3) for thing, where in spots)
    shrink = 1.0 if scene.place in ("", CENTER) else OFF_CENTER_SHRINK
    where = PLACES[scene.place or CENTER]
    return (_spot(rng, where, RADIUS_ALONE[scene.things[0].size] * shrink, wobble_px=4),)


def _spot(rng: random.Random, where: tuple[float, float], radius: float, *, wobble_px: float) -> Spot:
    x, y = (share * SIDE + rng.uniform(-wobble_px, wobble_px) for share in where)
    return Spot(x, y, radius * rng.uniform(0.95, 1.05))


def _caption(scene: Scene, rng: random.Random) -> str:
    first = scene.things[0].words
    if not scene.relation:
        return f"{first} {scene.place}" if scene.place else first
    relation = scene.relation
    if relation in ("left of", "right of"):
        relation = rng.choice((relation, f"to the {relation}"))
    return f"{first} {relation} {scene.things[1].words}"


def render(scene: Scene, spots: tuple[Spot, ...], rng: random.Random) -> Image.Image:
    """Draw `scene` (RGB, SIDE × SIDE); its colours differ a little from the named ones."""
    image = Image.new("RGB", (SIDE, SIDE), near(BACKGROUNDS[scene.background], rng, spread=3))
    for thing, spot in zip(scene.things, spots, strict=True):
        colour = near(COLOURS[thing.colour], rng, spread=6)
        image.paste(colour, (0, 0), draw_mask(thing.shape, spot.x, spot.y, spot.radius))
    return image


def near(colour: Rgb, rng: random.Random, *, spread: float) -> Rgb:
    """Return a colour at most `spread` away from `colour` in every channel."""
    red, green, blue = (int(min(255, max(0, channel + rng.uniform(-spread, spread)))) for channel in colour)
    return red, green, blue
