"""Uploads on the worker's side: found by the tenant's key, brought to the size of the spec, refused by name."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from libs.blobs.memory import MemoryBlobs
from libs.blobs.uploads import upload_key
from libs.clients import modelserver as client
from libs.errors import DarkroomError, InternalFault, InvalidRequest, NotFound, Unavailable
from libs.generation.attempt import FailureKind
from libs.generation.spec import GenerationSpec
from libs.ids import JobId, TenantId, UploadId
from services.modelserver import wire
from services.modelserver.attempt import Order
from services.modelserver.inputs import MAX_BYTES, InputReader, failure_of, fitted

ACME, IMAGE, MASK = (
    TenantId("acme"),
    UploadId("upl_01JD0000000000000000000000"),
    UploadId("upl_01JD0000000000000000000001"),
)
SPEC = GenerationSpec("a", "", "m", 16, 8, 1, 4, 1.0, 0, "euler", input_image=IMAGE, strength=0.8)


def png(pixels: np.ndarray) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(pixels).save(kept, "PNG")
    return kept.getvalue()


def halves(height: int, width: int, left: Any, right: Any, channels: int = 3) -> bytes:
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return png(pixels[..., 0] if channels == 1 else pixels)


def order(spec: GenerationSpec = SPEC, tenant_id: TenantId = ACME) -> Order:
    """Return an order as it comes over the wire."""
    sent = client.Order(JobId("job_1"), 1, 1, "m@1", spec, tenant_id=tenant_id)
    return wire.order_from_pb(client._order_to_pb(sent))


async def test_an_order_brings_the_uploads_of_its_tenant() -> None:
    blobs = MemoryBlobs()
    await blobs.put(upload_key(ACME, IMAGE), halves(40, 80, (255, 0, 0), (0, 0, 255)), "image/png")
    await blobs.put(upload_key(ACME, MASK), halves(20, 40, 255, 0, 1), "image/png")
    inputs = await InputReader(blobs).read(order(dataclasses.replace(SPEC, mask_image=MASK)))
    image, mask = np.asarray(inputs.image), np.asarray(inputs.mask)
    assert (image.shape, image.dtype, mask.shape) == ((8, 16, 3), np.uint8, (8, 16))
    assert np.array_equal(image[0, (0, 15)], [(255, 0, 0), (0, 0, 255)])
    assert np.array_equal(mask, np.repeat([[255] * 8 + [0] * 8], 8, axis=0))
    with pytest.raises(NotFound) as gone:
        await InputReader(blobs).read(order(tenant_id=TenantId("other")))
    assert (gone.value.reason, gone.value.metadata) == ("UPLOAD_NOT_FOUND", {"field": "input_image"})


async def test_an_order_without_uploads_asks_for_nothing() -> None:
    inputs = await InputReader(MemoryBlobs()).read(order(dataclasses.replace(SPEC, input_image="", strength=None)))
    assert (inputs.image, inputs.mask) == (None, None)


def test_a_picture_covers_the_size_and_loses_its_edges_on_both_sides() -> None:
    bands = np.zeros((10, 60, 3), np.uint8)
    bands[:, :20], bands[:, 20:40], bands[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = np.asarray(fitted(png(bands), None, (20, 10)).image)
    assert np.array_equal(image, bands[:, 20:40])


def test_picture_and_mask_lose_the_same() -> None:
    bands = np.zeros((12, 60), np.uint8)
    bands[:, 25:33] = 255
    inputs = fitted(png(np.repeat(bands[..., None], 3, axis=2)), png(bands), (24, 24))
    assert np.array_equal(np.asarray(inputs.mask) == 255, np.asarray(inputs.image)[..., 0] >= 128)


def test_transparent_is_white_in_a_picture_and_kept_in_a_mask() -> None:
    see_through = halves(8, 16, (0, 0, 0, 0), (9, 9, 9, 255), channels=4)
    assert np.array_equal(
        np.asarray(fitted(see_through, None, (16, 8)).image)[0, (0, 15)], [(255, 255, 255), (9, 9, 9)]
    )
    strokes = halves(8, 16, (255, 255, 255, 0), (255, 255, 255, 255), channels=4)
    assert np.array_equal(np.asarray(fitted(see_through, strokes, (16, 8)).mask)[0, (0, 15)], [0, 255])


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="40x20, the picture has 40x40"):
        fitted(halves(40, 40, 0, 1), halves(20, 40, 0, 255, 1), (8, 8))


async def test_what_is_too_large_is_not_read_to_its_end() -> None:
    blobs = MemoryBlobs()
    await blobs.put(upload_key(ACME, IMAGE), bytes(MAX_BYTES + 1), "image/png")
    with pytest.raises(InvalidRequest, match="larger than any upload"):
        await InputReader(blobs).read(order())


@pytest.mark.parametrize("data", [b"", b"no picture", halves(8, 8, 1, 2)[:-30]])
def test_what_was_spoilt_in_the_store_is_our_fault(data: bytes) -> None:
    with pytest.raises(InternalFault):
        fitted(data, None, (8, 8))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFound("", reason="UPLOAD_NOT_FOUND"), FailureKind.INVALID),
        (InvalidRequest(""), FailureKind.INVALID),
        (Unavailable(""), FailureKind.TRANSIENT),
        (InternalFault("", reason="GENERATION_FAILED"), FailureKind.TRANSIENT),
    ],
)
def test_whose_fault_it_is(error: DarkroomError, kind: FailureKind) -> None:
    assert (failure_of(error).kind, failure_of(error).reason) == (kind, error.reason)
