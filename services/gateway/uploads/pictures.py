"""From the bytes that somebody sent to a picture that may be kept: recognised, bounded, upright, without metadata."""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from libs.errors import InvalidRequest

MAX_BYTES, MAX_PIXELS = 20_000_000, 16_000_000
_MAX_SCANS = 100  # of a JPEG; cameras write 1 to 15, and each is a pass over all pixels
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "MPO": "image/jpeg", "WEBP": "image/webp"}  # MPO: of cameras
_FAST = 1  # the level of compression: a photograph gains little from more

# What Pillow's readers raise when a file is broken.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# Of a segment with a length, or the end; not a filled-up byte, a restart or a beginning.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
_SCAN, _END = b"\xff\xda", b"\xff\xd9"

_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it is kept: a PNG in grey, RGB or RGBA of 8 bits. `content_type` is what it came as."""

    png: bytes
    content_type: str
    width: int
    height: int


def read_picture(data: bytes) -> Picture:
    """Return the picture in these bytes, its first one when there are several.

    The size is checked before anything is decoded. Raises InvalidRequest: PICTURE_UNREADABLE or PICTURE_TOO_LARGE.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise _too_large(f"it has {width}x{height} pixels")
            if opened.format in ("JPEG", "MPO") and _scans(data) > _MAX_SCANS:
                raise _unreadable(f"The JPEG has more than {_MAX_SCANS} scans.")
            content_type = _FORMATS[opened.format or ""]
            upright = _plain(_turned(opened))
    except _BOMB:
        raise _too_large("it has far more") from None
    except UnidentifiedImageError:
        raise _unreadable(_unknown(data)) from None
    except _BROKEN:
        raise _unreadable("The file begins like a picture and is broken or cut off.") from None
    written = io.BytesIO()
    upright.save(written, format="PNG", compress_level=_FAST)
    return Picture(written.getvalue(), content_type, *upright.size)


def _scans(jpeg: bytes) -> int:
    """Return how many scans a decoder would go through, up to the end of the first picture or one above the most.

    The marker may also stand by chance in what lies within segments or behind the picture, such as a film.
    """
    scans, at = 0, 2
    while scans <= _MAX_SCANS and (marker := _MARKER.search(jpeg, at)) is not None and marker[0] != _END:
        scans += marker[0] == _SCAN
        at = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
    return scans


def _turned(opened: Image.Image) -> Image.Image:
    opened.load()
    try:
        orientation = opened.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return opened  # a picture with broken notes is still a picture
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return opened if turn is None else opened.transpose(turn)


def _plain(picture: Image.Image) -> Image.Image:
    """Return the pixels alone, of 8 bits, without palette, colour profile and notes."""
    if picture.mode.startswith("I"):  # 16 bits of grey, which a plain conversion would cut off at 255
        picture = picture.point(lambda value: value * (1 / 256)).convert("L")
    see_through = "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info
    mode = "RGBA" if see_through else "L" if picture.mode in ("1", "L", "F") else "RGB"
    plain = picture.convert(mode) if picture.mode != mode else picture.copy()
    plain.info.clear()
    return plain


def _unknown(data: bytes) -> str:
    if not data:
        return "The body is empty."
    if b"form-data" in data[:1000]:
        return "The body is a form."
    return "The body is not a PNG, JPEG or WebP."


def _unreadable(what: str) -> InvalidRequest:
    told = f"{what} Send the bytes of a PNG, JPEG or WebP as they are: curl --data-binary @picture.png. "
    return InvalidRequest(told + "Nothing was charged.", reason="PICTURE_UNREADABLE")


def _too_large(what: str) -> InvalidRequest:
    told = f"The picture is too large: {what}, and {MAX_PIXELS // 1_000_000} megapixels are allowed. Make it smaller "
    return InvalidRequest(told + "and send it again. Nothing was charged.", reason="PICTURE_TOO_LARGE")
