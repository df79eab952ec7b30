"""Clips to the bytes of a file: MP4 (H.264) that every browser plays from its first byte on, or animated WebP."""

from __future__ import annotations

import io
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from services.modelserver.engine.protocol import Pixels

_CODEC = "libx264"
_THREADS = 2  # the same number everywhere: it changes the bytes
_WORST_CRF, _CRF_A_QUALITY = 51, 0.37  # quality 90 is CRF 18, which most people cannot tell from the original
_BT709 = 1  # the number of this colour space in H.264's header; without it players guess by the size


def mp4(clip: Pixels, fps: int, quality: int) -> bytes:
    """Return [frames, height, width, 3] as H.264 in an MP4 whose index comes first; `quality` is 1 to 100.

    Odd sizes grow by a column or row, a copy of the last: the colours of H.264 are kept for blocks of 2 × 2.
    """
    odd = (0, clip.shape[1] % 2), (0, clip.shape[2] % 2)
    even = np.pad(clip, ((0, 0), *odd, (0, 0)), mode="edge") if odd != ((0, 0), (0, 0)) else clip
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:  # moving the index to the front needs a file
        with av.open(file.name, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = _stream(cast("VideoStream", container.add_stream(_CODEC, rate=Fraction(fps))), even, quality)
            for pixels in even:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
            container.mux(stream.encode(None))
        return Path(file.name).read_bytes()


def webp(clip: Pixels, fps: int, quality: int) -> bytes:
    """Return [frames, height, width, 3] as an animated WebP that repeats for ever; `quality` is 1 to 100."""
    first, *others = [Image.fromarray(pixels) for pixels in clip]
    ends_ms = [round((index + 1) * 1000 / fps) for index in range(len(clip))]  # rounded ends, so that nothing adds up
    lasts_ms = [end - start for start, end in zip([0, *ends_ms], ends_ms, strict=False)]
    written = io.BytesIO()
    first.save(
        written,
        format="WEBP",
        save_all=True,
        append_images=others,
        duration=lasts_ms,
        loop=0,
        quality=quality,
        method=4,
    )
    return written.getvalue()


def _stream(stream: VideoStream, clip: Pixels, quality: int) -> VideoStream:
    _, stream.height, stream.width, _ = clip.shape
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": str(round(_WORST_CRF - _CRF_A_QUALITY * quality)), "preset": "medium"}
    context = stream.codec_context
    context.thread_count = _THREADS
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = ColorRange.MPEG
    return stream
