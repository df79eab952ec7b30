"""The bytes of pictures: with a key by job and index, without one through a signed link that a CDN may keep."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeAlias

from google.api import httpbody_pb2

from darkroom.v1 import generation_service_pb2 as pb
from darkroom.v1 import job_pb2
from libs.blobs.store import BlobStore, image_key
from libs.clock import Clock
from libs.errors import NotFound
from libs.ids import JobId, TenantId
from libs.rpc import headers
from services.gateway.callers.withdrawals import Standing
from services.gateway.peers import Scheduler
from services.gateway.reading.links import Links

_DAY_S = 86_400

Body: TypeAlias = httpbody_pb2.HttpBody


class Downloads:
    """Streams pictures."""

    def __init__(self, scheduler: Scheduler, blobs: BlobStore, links: Links, clock: Clock) -> None:
        self._scheduler = scheduler
        self._blobs = blobs
        self._links = links
        self._clock = clock

    async def image(
        self, tenant_id: TenantId, job_id: JobId, index: int, if_none_match: str, standing: Standing
    ) -> AsyncGenerator[Body, None]:
        """Yield a picture of a tenant's job. An unchanged one is 304 and empty.

        Raises NotFound, and Unauthenticated when what the reader came with stands no more.
        """
        job = await self._scheduler.get_job(tenant_id, job_id)
        image = _image(job, index)
        kept = f"private, max-age={_DAY_S}, immutable"
        own = [("vary", "Authorization, Cookie"), *_headers(image.sha256, kept)]
        async with aclosing(self._body(image.sha256, image.content_type, own, if_none_match)) as bodies:
            async for body in bodies:
                standing.check()  # a reader may take a part of it now and the next one in an hour
                yield body

    async def linked(self, request: pb.DownloadBlobRequest, if_none_match: str) -> AsyncGenerator[Body, None]:
        """Yield the picture that a signed link leads to; raises NotFound."""
        now = self._clock.now()
        blob = self._links.blob(request.name, request.e, request.k, request.s, now)
        kept = f"public, max-age={min(_DAY_S, int(blob.expires_at - now))}, immutable"
        async for body in self._body(blob.sha256, blob.content_type, _headers(blob.sha256, kept), if_none_match):
            yield body

    async def _body(
        self, sha256: str, content_type: str, own: list[tuple[str, str]], if_none_match: str
    ) -> AsyncGenerator[Body, None]:
        await self._blobs.head(image_key(sha256))  # also when unchanged: deleted pictures are 404 everywhere
        headers.add(own)
        if matches(if_none_match, sha256):
            headers.add([("x-http-code", "304")])
            yield Body(content_type=content_type)
            return
        async for chunk in self._blobs.get_stream(image_key(sha256)):
            yield Body(content_type=content_type, data=chunk)


def matches(if_none_match: str, tag: str) -> bool:
    """Whether an If-None-Match header names the entity tag, weak or strong, or anything."""
    named = {part.strip().removeprefix("W/").strip('"') for part in if_none_match.split(",")}
    return tag in named or "*" in named


def _image(job: job_pb2.Job, index: int) -> job_pb2.Image:
    for image in job.images:
        if image.index == index:
            return image
    state = job_pb2.Job.State.Name(job.state)
    told = f"Job {job.id} has no picture {index}; it is {state} with {len(job.images)} pictures. Nothing was charged."
    raise NotFound(told, reason="IMAGE_NOT_FOUND", metadata={"job_id": job.id, "index": str(index)})


def _headers(sha256: str, cache_control: str) -> list[tuple[str, str]]:
    return [("etag", f'"{sha256}"'), ("cache-control", cache_control), ("x-content-type-options", "nosniff")]
