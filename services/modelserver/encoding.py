"""Pixels to the bytes of a file. Nothing of the request is written into it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from services.modelserver.engine.protocol import Pixels

_PREVIEW_QUALITY = 60


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file: its bytes, their media type and their SHA-256 in hex."""

    data: bytes
    content_type: str
    sha256: str


def encode(pixels: Pixels, form: str, quality: int) -> Encoded:
    """Return the picture as `png`, `jpeg` or `webp`; `quality` (1 to 100) is for the last two."""
    written = io.BytesIO()
    options = {} if form == "png" else {"quality": quality}
    Image.fromarray(pixels).save(written, format=form.upper(), **options)
    data = written.getvalue()
    return Encoded(data, f"image/{form}", hashlib.sha256(data).hexdigest())


def encode_preview(pixels: Pixels) -> Encoded:
    """Return a rough picture, small in bytes."""
    return encode(pixels, "jpeg", _PREVIEW_QUALITY)
