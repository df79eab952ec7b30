"""The outlines of the eight shapes, drawn as anti-aliased masks."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

SIDE = 128  # pixels of a picture, both ways
SUPERSAMPLE = 3  # masks are drawn this much larger, then averaged down
HEART_POINTS = 60

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "crescent")

Points = list[tuple[float, float]]


def draw_mask(shape: str, x: float, y: float, radius: float) -> Image.Image:
    """Return an 8-bit mask (SIDE × SIDE, 255 inside) of `shape` centred at x, y; all lengths in pixels.

    Raises KeyError for a shape that is not in SHAPES.
    """
    mask = Image.new("L", (SIDE * SUPERSAMPLE, SIDE * SUPERSAMPLE), 0)
    _PENS[shape](ImageDraw.Draw(mask), x * SUPERSAMPLE, y * SUPERSAMPLE, radius * SUPERSAMPLE)
    return mask.resize((SIDE, SIDE), Image.Resampling.BOX)


Pen = Callable[[ImageDraw.ImageDraw, float, float, float], None]


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _circle(pen: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    _disc(pen, x, y, r * 0.95, 255)


def _ring(pen: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    _disc(pen, x, y, r, 255)
    _disc(pen, x, y, r * 0.58, 0)


def _crescent(pen: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    _disc(pen, x, y, r, 255)
    _disc(pen, x + 0.45 * r, y - 0.15 * r, r * 0.8, 0)


def _filled(outline: Callable[[float], Points]) -> Pen:
    """Make a pen of an outline that is given around the origin."""

    def pen(draw: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
        draw.polygon([(x + dx, y + dy) for dx, dy in outline(r)], fill=255)

    return pen


def _square(r: float) -> Points:
    half = 0.86 * r
    return [(-half, -half), (half, -half), (half, half), (-half, half)]


def _triangle(r: float) -> Points:
    return [(0, -r), (r, 0.8 * r), (-r, 0.8 * r)]


def _star(r: float) -> Points:
    spokes = ((r * 1.1 if i % 2 == 0 else 0.45 * r, -math.pi / 2 + math.pi * i / 5) for i in range(10))
    return [(length * math.cos(angle), length * math.sin(angle)) for length, angle in spokes]


def _heart(r: float) -> Points:
    points = []
    for i in range(HEART_POINTS):
        t = 2 * math.pi * i / HEART_POINTS
        height = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3 * r, -(height + 2) * r / 16))
    return points


def _cross(r: float) -> Points:
    w = 0.36 * r
    quarter = [(w, -r), (w, -w), (r, -w)]
    right = [*quarter, *((x, -y) for x, y in reversed(quarter))]
    return [*right, *((-x, y) for x, y in reversed(right))]


_PENS: dict[str, Pen] = {
    "circle": _circle,
    "square": _filled(_square),
    "triangle": _filled(_triangle),
    "star": _filled(_star),
    "heart": _filled(_heart),
    "ring": _ring,
    "cross": _filled(_cross),
    "crescent": _crescent,
}
