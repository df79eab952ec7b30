"""What is taken for a picture, what is left of it, and what is refused before it is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from libs.errors import InvalidRequest
from services.gateway.uploads.pictures import read_picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # it tells of broken notes, once a place


def written(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    kept = io.BytesIO()
    picture.save(kept, format=form, **options)
    return kept.getvalue()


def scene(width: int = 6, height: int = 4) -> Image.Image:
    """Red above on the left, blue elsewhere."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    return Image.fromarray(pixels)


def reasons(data: bytes) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        read_picture(data)
    return refused.value.reason, refused.value.message


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it has this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("form", "content_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_three_formats_are_known_by_their_content(form: str, content_type: str) -> None:
    picture = read_picture(written(scene(), form))
    assert (picture.content_type, picture.width, picture.height) == (content_type, 6, 4)
    assert Image.open(io.BytesIO(picture.png)).format == "PNG"


def test_nothing_but_the_pixels_is_kept() -> None:
    notes = PngInfo()
    notes.add_text("Author", "somebody at home")
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    data = written(scene(), pnginfo=notes, exif=exif, icc_profile=b"profile of a screen", dpi=(72, 72))
    kept = Image.open(io.BytesIO(read_picture(data).png))
    kept.load()
    assert kept.info == {}
    assert not kept.getexif()
    assert np.array_equal(np.asarray(kept), np.asarray(scene()))


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    for orientation, back in (
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ):
        exif[0x0112] = orientation
        picture = read_picture(written(scene().transpose(back), "PNG", exif=exif))
        assert (picture.width, picture.height) == (6, 4)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.png))), np.asarray(scene()))


def test_broken_notes_spoil_no_picture() -> None:
    data = written(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_picture(data).width == 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_pixel_becomes_eight_bits(mode: str) -> None:
    if mode == "I;16":
        picture, expected = Image.fromarray(np.full((4, 6), 0x8000, np.uint16)), "L"
    else:
        picture, expected = scene().convert(mode), {"1": "L", "L": "L", "LA": "RGBA", "RGBA": "RGBA"}.get(mode, "RGB")
    kept = Image.open(io.BytesIO(read_picture(written(picture, "JPEG" if mode == "CMYK" else "PNG")).png))
    assert (kept.mode, kept.size) == (expected, (6, 4))
    if mode == "I;16":
        assert np.asarray(kept).max() == 0x80


def test_of_an_animation_the_first_picture_is_taken() -> None:
    data = written(scene(), "WEBP", save_all=True, append_images=[Image.new("RGB", (6, 4))], lossless=True)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(read_picture(data).png))), np.asarray(scene()))


@pytest.mark.parametrize(
    "size", [(4001, 4000), (16_000_001, 1), (10_000, 10_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)]
)
def test_too_many_pixels_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    reason, message = reasons(png_of_size(*size))
    assert reason == "PICTURE_TOO_LARGE"
    assert "16 megapixels" in message


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"GIF89a" + bytes(40), "not a PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG, JPEG or WebP"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n', "is a form"),
        (written(scene(60, 40), "PNG")[:90], "broken or cut off"),
        (written(scene(60, 40), "JPEG")[:-200], "broken or cut off"),
        (png_of_size(4, 4), "broken or cut off"),
    ],
)
def test_what_is_no_picture_is_told_how_to_send_one(data: bytes, told: str) -> None:
    reason, message = reasons(data)
    assert reason == "PICTURE_UNREADABLE"
    assert told in message
    assert "--data-binary" in message


WHOLE = [written(scene(40, 30), form) for form in ("PNG", "JPEG", "WEBP")]


@given(
    st.sampled_from(WHOLE), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8), st.floats(0, 1)
)
def test_spoilt_bytes_are_a_picture_or_a_refusal(data: bytes, changes: list[tuple[float, int]], length: float) -> None:
    spoilt = bytearray(data[: max(1, int(len(data) * length))])
    for place, value in changes:
        spoilt[int(place * len(spoilt))] = value
    try:
        reason = read_picture(bytes(spoilt)).content_type
    except InvalidRequest as error:
        reason = error.reason
    assert reason in ("PICTURE_UNREADABLE", "PICTURE_TOO_LARGE", "image/png", "image/jpeg", "image/webp")


def test_a_jpeg_of_very_many_scans_is_not_decoded() -> None:
    jpeg, scan = written(scene(), "JPEG", progressive=True), b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x55\xff\x00"
    reason, told = reasons(jpeg.removesuffix(b"\xff\xd9") + 101 * scan + b"\xff\xd9")
    assert (reason, "scans" in told) == ("PICTURE_UNREADABLE", True)


def test_what_lies_in_a_comment_or_behind_a_jpeg_is_no_scan() -> None:
    jpeg = written(scene(), "JPEG", progressive=True, comment=200 * b"\xff\xda")
    assert read_picture(jpeg + 200 * b"\xff\xda\x00\x02").width == 6
