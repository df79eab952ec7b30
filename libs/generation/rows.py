"""How many rows of a forward a drawing takes, and how its size is named: workers and schedulers count alike.

A row is one image of one request × one guidance branch.
"""

from __future__ import annotations

from libs.generation.spec import GenerationSpec


def rows_of(spec: GenerationSpec) -> int:
    """Return how many rows a drawing takes in a forward."""
    return spec.images * (2 if spec.guided else 1)


def bucket_of(width: int, height: int, frames: int | None) -> str:
    """Return how a size of pictures is named: width x height in pixels, and the frames of a clip."""
    return f"{width}x{height}" + (f"x{frames}" if frames else "")
