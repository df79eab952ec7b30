"""Clips, decoded again: every frame is there, in its size, its time and its colours."""

from __future__ import annotations

import hashlib
import io

import av
import numpy as np
import pytest
from PIL import Image

from services.modelserver.encoding import encode, encode_preview

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (180, 180, 60), (120, 120, 120), (240, 240, 240), (20, 20, 20)]


def clip(height: int = 32, width: int = 48, frames: int = 7) -> np.ndarray:
    """One colour a frame, with a bar that moves."""
    pixels = np.zeros((frames, height, width, 3), np.uint8)
    for index in range(frames):
        pixels[index] = COLOURS[index % len(COLOURS)]
        pixels[index, :, index * 4 : index * 4 + 4] = 255 - np.array(COLOURS[index % len(COLOURS)])
    return pixels


def decoded(data: bytes) -> tuple[np.ndarray, float, str]:
    """Return the frames of an MP4 as RGB, its rate and what its stream is."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        told = f"{stream.codec_context.name} {stream.codec_context.pix_fmt} {stream.codec_context.colorspace}"
        return np.stack(frames), float(stream.average_rate or 0), told


@pytest.mark.parametrize("fps", [1, 7, 24, 60])
def test_an_mp4_has_every_frame_at_its_time(fps: int) -> None:
    encoded = encode(clip(), "mp4", 95, fps)
    frames, rate, told = decoded(encoded.data)
    assert (frames.shape, rate) == ((7, 32, 48, 3), fps)
    assert told == "h264 yuv420p 1"
    assert (encoded.content_type, encoded.sha256) == ("video/mp4", hashlib.sha256(encoded.data).hexdigest())
    ends = [frames[index, 16, 40] for index in range(7)]
    assert np.abs(np.array(ends, int) - COLOURS).max() <= 8


def test_the_index_comes_first_so_that_it_plays_while_it_loads() -> None:
    data = encode(clip(), "mp4", 80, 8).data
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(("height", "width"), [(31, 47), (32, 47), (31, 48)])
def test_odd_sizes_grow_by_one(height: int, width: int) -> None:
    frames, _, _ = decoded(encode(clip(height, width), "mp4", 95, 8).data)
    assert frames.shape == (7, 32, 48, 3)
    assert np.abs(frames[:, -1].astype(int) - frames[:, -2]).max() <= 16


def test_quality_costs_bytes() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (3, 64, 64, 3), np.uint8)
    for form in ("mp4", "webp"):
        sizes = [len(encode(noise, form, quality, 8).data) for quality in (1, 50, 100)]
        assert sizes == sorted(sizes)
        assert sizes[2] > 2 * sizes[0]


def test_the_same_clip_gives_the_same_bytes() -> None:
    assert encode(clip(), "mp4", 90, 8).sha256 == encode(clip(), "mp4", 90, 8).sha256


def test_a_webp_moves_for_as_long_as_the_clip() -> None:
    encoded = encode(clip(), "webp", 90, 24)
    assert encoded.content_type == "image/webp"
    with Image.open(io.BytesIO(encoded.data)) as moving:
        assert (moving.n_frames, moving.size, moving.info["loop"]) == (7, (48, 32), 0)
        lasts = []
        for index in range(7):
            moving.seek(index)
            moving.load()
            lasts.append(moving.info["duration"])
            assert np.abs(np.asarray(moving.convert("RGB"))[16, 40].astype(int) - COLOURS[index]).max() <= 12
    assert sum(lasts) == round(7 * 1000 / 24)


def test_one_frame_is_a_clip_too() -> None:
    for pixels in (clip(frames=1), clip(frames=1)[0]):
        assert decoded(encode(pixels, "mp4", 90, 8).data)[0].shape == (1, 32, 48, 3)


def test_pictures_are_what_they_were() -> None:
    for form in ("png", "jpeg", "webp"):
        encoded = encode(clip()[0], form, 90)
        with Image.open(io.BytesIO(encoded.data)) as still:
            assert (still.format, encoded.content_type) == (form.upper(), f"image/{form}")
            assert getattr(still, "n_frames", 1) == 1


def test_the_preview_of_a_clip_is_its_middle() -> None:
    with Image.open(io.BytesIO(encode_preview(clip()).data)) as preview:
        assert preview.size == (48, 32)
        assert np.abs(np.asarray(preview)[16, 40].astype(int) - COLOURS[3]).max() <= 12
