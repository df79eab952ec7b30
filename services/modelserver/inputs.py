"""The pictures that a drawing starts from: fetched, decoded, brought to the size of the spec. No torch in here."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from libs.blobs.store import BlobStore
from libs.errors import DarkroomError, InternalFault, InvalidRequest, NotFound, Unavailable, Violation
from libs.generation.attempt import FailureKind
from libs.rpc import deadlines
from services.modelserver.attempt import Order
from services.modelserver.engine.protocol import Mask, Pixels
from services.modelserver.events import Failed

MAX_BYTES, MAX_PIXELS = 80_000_000, 16_000_000  # of an upload as the gateway keeps it: 4 bytes a pixel, and a little
_DECODED_AT_ONCE = 2
_HALF = 128  # levels of grey from here on are drawn anew
_SAME_SHAPE = 0.02  # how far the shapes of picture and mask may differ, as a share
_WHITE, _BLACK = (255, 255, 255, 255), (0, 0, 0, 255)

Size = tuple[int, int]  # width and height in pixels


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the engine's `Request` takes beside the spec; both have the spec's size."""

    image: Pixels | None = None
    mask: Mask | None = None


class InputReader:
    """Brings the uploads of an order from the blob store. Event loop only; decoding runs in threads, two at a time."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._decoding = asyncio.Semaphore(_DECODED_AT_ONCE)

    async def read(self, order: Order) -> Inputs:
        """Return the picture and the mask of an order, both None when it names none.

        Raises NotFound when an upload is gone, InvalidRequest when it cannot be used, Unavailable when the store does
        not answer; `failure_of` says what each means for the attempt.
        """
        spec = order.spec
        if not spec.input_image:
            return Inputs()
        image = await self._fetch("input_image", order.input_key)
        mask = await self._fetch("mask_image", order.mask_key) if spec.mask_image else None
        async with self._decoding:
            return await asyncio.to_thread(fitted, image, mask, (spec.width, spec.height))

    async def _fetch(self, field: str, key: str) -> bytes:
        if not key:
            raise _gone(field)
        data = bytearray()
        try:
            async with asyncio.timeout(deadlines.BLOB_S):
                async for chunk in self._blobs.get_stream(key):
                    data += chunk
                    if len(data) > MAX_BYTES:
                        raise _unusable(field, "is larger than any upload may be")
        except NotFound:
            raise _gone(field) from None
        except TimeoutError as error:
            raise Unavailable(f"The upload in {field} did not arrive in time. Nothing was charged.") from error
        return bytes(data)


def fitted(image: bytes, mask: bytes | None, size: Size) -> Inputs:
    """Decode a picture and its mask, scale them to cover `size` and cut off what stands out, the same of both.

    Transparent parts count as white in a picture and as kept (black) in a mask. Raises InvalidRequest.
    """
    picture = _decoded("input_image", image)
    pixels = np.array(ImageOps.fit(_flat(picture, _WHITE), size, Image.Resampling.LANCZOS))
    if mask is None:
        return Inputs(pixels)
    stencil = _decoded("mask_image", mask)
    if abs(picture.width * stencil.height / (picture.height * stencil.width) - 1) > _SAME_SHAPE:
        shapes = f"{stencil.width}x{stencil.height}, the picture has {picture.width}x{picture.height}"
        raise _unusable("mask_image", f"must have the shape of input_image: it has {shapes}")
    grey = ImageOps.fit(_flat(stencil, _BLACK).convert("L"), size, Image.Resampling.NEAREST)
    return Inputs(pixels, np.where(np.asarray(grey) >= _HALF, 255, 0).astype(np.uint8))


def failure_of(error: DarkroomError) -> Failed:
    """Return what an error of `InputReader.read` is for its attempt: the request's fault, or a passing one."""
    final = isinstance(error, NotFound | InvalidRequest)
    kind = FailureKind.INVALID if final else FailureKind.TRANSIENT
    return Failed(kind, error.reason, error.message)


def _decoded(field: str, data: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG",))
        if picture.width * picture.height > MAX_PIXELS:
            raise _unusable(field, "has more pixels than any upload may have")
        picture.load()
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        # The gateway wrote it as a PNG that can be read: it was spoilt in the store.
        told = f"The upload in {field} cannot be read back. Nothing was charged."
        raise InternalFault(told, reason="GENERATION_FAILED") from error
    return picture


def _flat(picture: Image.Image, ground: tuple[int, int, int, int]) -> Image.Image:
    if "A" not in picture.mode:
        return picture.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", picture.size, ground), picture.convert("RGBA")).convert("RGB")


def _gone(field: str) -> NotFound:
    told = f"The upload in {field} is no longer stored. Nothing was charged; send the picture and the request again."
    return NotFound(told, reason="UPLOAD_NOT_FOUND", metadata={"field": field})


def _unusable(field: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"The upload {field} {what}. Nothing was charged.", violations=[Violation(field, what)])
