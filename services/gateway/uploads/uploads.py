"""Pictures that requests start from: taken in, kept for their tenant for 24 hours, looked up when a request names one.

A tenant's upload lies under the tenant's own key (libs/blobs/uploads), so that for everybody else there is none.
An upload counts as one request of its minute and costs no units.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

from darkroom.v1 import upload_service_pb2 as pb
from libs.blobs.store import BlobStore
from libs.blobs.uploads import expires_at, upload_key
from libs.clock import Clock
from libs.errors import DeadlinePassed, InvalidRequest, NotFound, PreconditionFailed, Unavailable
from libs.generation.spec import GenerationSpec
from libs.ids import TenantId, UploadId, new_upload_id
from libs.rpc import deadlines, headers
from libs.wire.timestamp import timestamp
from services.gateway.callers.identity import Caller
from services.gateway.callers.owners import at_address
from services.gateway.callers.request_count import RequestCount
from services.gateway.peers import Limiter
from services.gateway.uploads.pictures import MAX_BYTES, Picture, read_picture

logger = logging.getLogger(__name__)

_AT_ONCE, _DECODED_AT_ONCE = 16, 2  # on their way in, each up to 20 MB; decoded, each up to 64 MB of pixels
_OF_ONE_TENANT = 4  # of those on their way in

_Decoding = asyncio.Task[Picture]


class Uploads:
    """Takes pictures in and vouches for them."""

    def __init__(self, blobs: BlobStore, limiter: Limiter, clock: Clock) -> None:
        self._blobs, self._requests, self._clock = blobs, RequestCount(limiter), clock
        self._taken: Counter[TenantId] = Counter()
        self._decoding = asyncio.Semaphore(_DECODED_AT_ONCE)

    async def take(self, caller: Caller, parts: AsyncIterator[bytes]) -> pb.Upload:
        """Read a picture to its end and keep it. Raises InvalidRequest, LimitExceeded or Unavailable."""
        with self._place(caller.tenant_id) as under_way:
            upload_id = new_upload_id(self._clock.now())
            await self._requests.take(caller, upload_id)
            data = await _received(parts)
            picture = await self._decoded(data, under_way)
            await self._blobs.put(upload_key(caller.tenant_id, upload_id), picture.png, "image/png")
        extra = {"tenant_id": caller.tenant_id, "upload_id": upload_id, "bytes": len(data)}
        logger.info("picture taken in", extra=extra)
        return _upload(upload_id, picture, len(data))

    @contextmanager
    def _place(self, tenant_id: TenantId) -> Iterator[list[_Decoding]]:
        """Hold a place until the end, and until the thread that decodes for it is through. Raises Unavailable."""
        if self._taken.total() >= _AT_ONCE or self._taken[tenant_id] >= _OF_ONE_TENANT:
            told = "Too many pictures are on their way in. Nothing was charged; try again in 2 s."
            raise Unavailable(told, retry_after_s=2.0)
        self._taken[tenant_id] += 1
        under_way: list[_Decoding] = []
        try:
            yield under_way
        finally:
            if under_way and not under_way[0].done():
                under_way[0].add_done_callback(lambda _thread: self._leave(tenant_id))
            else:
                self._leave(tenant_id)

    def _leave(self, tenant_id: TenantId) -> None:
        self._taken[tenant_id] -= 1
        if not self._taken[tenant_id]:
            del self._taken[tenant_id]

    async def _decoded(self, data: bytes, under_way: list[_Decoding]) -> Picture:
        """Decode in a thread, which nothing can stop: it keeps its turn until it is through, whoever went away."""
        await self._decoding.acquire()
        thread = asyncio.create_task(asyncio.to_thread(read_picture, data))
        under_way.append(thread)
        thread.add_done_callback(self._decoded_one)
        return await asyncio.shield(thread)

    def _decoded_one(self, thread: _Decoding) -> None:
        self._decoding.release()
        if not thread.cancelled():
            thread.exception()  # seen, also when nobody waits for it any more

    async def check(self, tenant_id: TenantId, spec: GenerationSpec) -> None:
        """Raise NotFound or PreconditionFailed unless every upload that a spec names is this tenant's and still good."""
        for field, named in (("input_image", spec.input_image), ("mask_image", spec.mask_image)):
            if not named:
                continue
            upload_id, metadata = UploadId(named), {"field": field, "upload_id": named}
            if expires_at(upload_id) <= self._clock.now():
                told = f"The upload in {field} is over 24 hours old. Nothing was charged; send the picture again."
                raise PreconditionFailed(told, reason="UPLOAD_EXPIRED", metadata=metadata)
            if not await self._blobs.exists(upload_key(tenant_id, upload_id)):
                told = f"There is no such upload for this key as {field} names. Nothing was charged; "
                again = "send the picture to /v1/uploads with the same key first."
                raise NotFound(told + again, reason="UPLOAD_NOT_FOUND", metadata=metadata)

    async def bringer(self, caller: Caller, named: Iterable[str]) -> Caller:
        """Return who brought the uploads that a request names: the caller, or whom it was taken for before."""
        before, ids = at_address(caller), [UploadId(upload_id) for upload_id in named if upload_id]
        if before is None or not ids or not all(_is_id(upload_id) for upload_id in ids):
            return caller
        found = [await self._blobs.exists(upload_key(before.tenant_id, upload_id)) for upload_id in ids]
        return before if all(found) else caller


def _is_id(upload_id: UploadId) -> bool:
    try:
        expires_at(upload_id)
    except ValueError:
        return False
    return True


async def _received(parts: AsyncIterator[bytes]) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(deadlines.UPLOAD_S):
            async for part in parts:
                data += part
                if len(data) > MAX_BYTES:
                    raise _too_long()
    except TimeoutError:
        told = f"The picture did not arrive within {deadlines.UPLOAD_S:.0f} s. Nothing was charged; send it again."
        raise DeadlinePassed(told) from None
    return bytes(data)


def _too_long() -> InvalidRequest:
    headers.add([("x-http-code", "413")])
    told = f"The body is larger than {MAX_BYTES // 1_000_000} MB. Nothing was charged; send a smaller picture."
    return InvalidRequest(told, reason="REQUEST_TOO_LARGE")


def _upload(upload_id: UploadId, picture: Picture, size_bytes: int) -> pb.Upload:
    return pb.Upload(
        id=upload_id,
        content_type=picture.content_type,
        width=picture.width,
        height=picture.height,
        size_bytes=size_bytes,
        expire_time=timestamp(expires_at(upload_id)),
    )
