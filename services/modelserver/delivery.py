"""From pixels to pictures that others can fetch: encode, put into the blob store, then say so."""

from __future__ import annotations

import asyncio

from libs.blobs.store import BlobStore, image_key
from libs.clock import Clock
from libs.errors import DarkroomError
from libs.generation.attempt import FailureKind, ImageStored, StageDone
from services.modelserver.attempt import Attempt
from services.modelserver.encoding import encode
from services.modelserver.engine.protocol import Drawing, Pixels
from services.modelserver.events import Done, Failed


class Delivery:
    """Runs beside the device thread, so that the next attempt can draw meanwhile."""

    def __init__(self, blobs: BlobStore, clock: Clock) -> None:
        self._blobs = blobs
        self._clock = clock

    async def deliver(self, attempt: Attempt, drawing: Drawing, gpu_ms: float) -> None:
        """Store every picture and end the attempt; a store that does not answer is a passing fault."""
        start_s = self._clock.now()
        try:
            for index, pixels in enumerate(drawing.pictures):
                attempt.post(await self._store(attempt, index, pixels))
        except DarkroomError as error:
            attempt.post(Failed(FailureKind.TRANSIENT, error.reason, error.message, gpu_ms))
            return
        attempt.post(StageDone("store", start_s, self._clock.now()))
        attempt.post(Done(gpu_ms, drawing.peak_memory_bytes))

    async def _store(self, attempt: Attempt, index: int, pixels: Pixels) -> ImageStored:
        spec = attempt.order.spec
        encoded = await asyncio.to_thread(encode, pixels, spec.output_format, spec.output_quality, spec.fps or 0)
        await self._blobs.put(image_key(encoded.sha256), encoded.data, encoded.content_type)
        return ImageStored(
            index=index,
            content_type=encoded.content_type,
            width=pixels.shape[-2],
            height=pixels.shape[-3],
            seed=spec.image_seed(index),
            sha256=encoded.sha256,
            size_bytes=len(encoded.data),
        )
