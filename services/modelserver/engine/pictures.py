"""What a pipeline returned, as the pictures or clips of each of its requests."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.modelserver.engine.protocol import BadPictures, Pixels

_LEVELS = 255


def pictures_of(output: Any) -> tuple[Pixels, ...]:
    """Return stills [height, width, 3] or clips [frames, height, width, 3]; raises BadPictures for NaN."""
    images = output.images if hasattr(output, "images") else output.frames
    values = np.asarray(images)  # [n, …, height, width, channels], 0 to 1: what diffusers makes PIL images of
    if not np.isfinite(values).all():
        raise BadPictures("the numbers ran away while decoding")
    return tuple((values * _LEVELS).round().astype(np.uint8)[..., :3])


def flags_of(output: Any, pictures: int) -> tuple[bool, ...]:
    """Return which pictures the model's own safety checker took out; empty when it has none."""
    flags = getattr(output, "nsfw_content_detected", None)
    return tuple(bool(flag) for flag in flags) if flags and len(flags) == pictures else ()
