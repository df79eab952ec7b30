"""Pixels to the bytes of a file. Nothing of the request is written into it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from PIL import Image

from services.modelserver import clips
from services.modelserver.engine.protocol import Pixels

_PREVIEW_QUALITY = 60
_MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "mp4": "video/mp4"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file: its bytes, their media type and their SHA-256 in hex."""

    data: bytes
    content_type: str
    sha256: str


def encode(pixels: Pixels, form: str, quality: int, fps: int = 0) -> Encoded:
    """Return a picture as `png`, `jpeg` or `webp`, or a clip at `fps` frames a second as `mp4` or `webp`.

    `quality` (1 to 100) is for all but png. A single picture among clips is a clip of one frame.
    """
    if form == "mp4" or pixels.ndim == 4:
        clip = pixels if pixels.ndim == 4 else pixels[None]
        data = (clips.mp4 if form == "mp4" else clips.webp)(clip, max(1, fps), quality)
    else:
        data = _still(pixels, form, quality)
    return Encoded(data, _MEDIA_TYPES[form], hashlib.sha256(data).hexdigest())


def encode_preview(pixels: Pixels) -> Encoded:
    """Return a rough picture, small in bytes; of a clip its frame in the middle."""
    return encode(pixels[len(pixels) // 2] if pixels.ndim == 4 else pixels, "jpeg", _PREVIEW_QUALITY)


def _still(pixels: Pixels, form: str, quality: int) -> bytes:
    written = io.BytesIO()
    options = {} if form == "png" else {"quality": quality}
    Image.fromarray(pixels).save(written, format=form.upper(), **options)
    return written.getvalue()
