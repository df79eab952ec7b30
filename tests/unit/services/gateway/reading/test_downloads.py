from __future__ import annotations

import hashlib
from contextlib import aclosing
from urllib.parse import parse_qs, urlsplit

import pytest

from darkroom.v1 import generation_service_pb2 as pb
from darkroom.v1 import job_pb2
from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import image_key
from libs.errors import NotFound, Unauthenticated
from libs.rpc import headers
from libs.signing import Signer
from libs.testing.clock import ManualClock
from services.gateway.callers.withdrawals import Standing
from services.gateway.reading.downloads import Downloads, matches
from services.gateway.reading.links import Links
from tests.unit.services.gateway.fakes import CALLER, JOB, KEYS, NOW, FakeScheduler, job

DATA = b"picture" * 100_000
SHA = hashlib.sha256(DATA).hexdigest()
LINKS = Links(Signer(KEYS))


class Bench:
    """One stored picture of one job."""

    def __init__(self) -> None:
        image = job_pb2.Image(index=0, sha256=SHA, content_type="image/png")
        self.scheduler = FakeScheduler(jobs={JOB: job(job_pb2.Job.SUCCEEDED, images=[image])})
        self.blobs = MemoryBlobs()
        self.clock = ManualClock(NOW)
        self.downloads = Downloads(self.scheduler, self.blobs, LINKS, self.clock)

    async def image(self, index: int = 0, if_none_match: str = "") -> tuple[bytes, str, dict[str, str]]:
        collected = headers.begin()
        bodies = [body async for body in self.downloads.image(CALLER.tenant_id, JOB, index, if_none_match, Standing())]
        return b"".join(body.data for body in bodies), bodies[0].content_type, collected

    async def linked(self, ends: int, if_none_match: str = "") -> tuple[bytes, str, dict[str, str]]:
        url = urlsplit(LINKS.blob_path(SHA, "image/png", ends))
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        name = url.path.removeprefix("/v1/blobs/")
        request = pb.DownloadBlobRequest(name=name, e=int(query["e"]), k=query["k"], s=query["s"])
        collected = headers.begin()
        bodies = [body async for body in self.downloads.linked(request, if_none_match)]
        return b"".join(body.data for body in bodies), bodies[0].content_type, collected


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.blobs.put(image_key(SHA), DATA, "image/png")
    return made


async def test_with_a_key_only_the_browser_keeps_it(bench: Bench) -> None:
    assert await bench.image() == (
        DATA,
        "image/png",
        {
            "etag": f'"{SHA}"',
            "cache-control": "private, max-age=86400, immutable",
            "vary": "Authorization, Cookie",
            "x-content-type-options": "nosniff",
        },
    )


async def test_a_download_ends_with_the_key_that_it_came_with(bench: Bench) -> None:
    standing = Standing()
    async with aclosing(bench.downloads.image(CALLER.tenant_id, JOB, 0, "", standing)) as bodies:
        assert (await anext(bodies)).data
        standing.end("KEY_REVOKED")
        with pytest.raises(Unauthenticated):
            await anext(bodies)


@pytest.mark.parametrize(("life_s", "kept_s"), [(100, 100), (200_000, 86_400)])
async def test_through_a_link_anybody_keeps_it_as_long_as_the_link_lives(
    bench: Bench, life_s: int, kept_s: int
) -> None:
    data, _, sent = await bench.linked(NOW + life_s)
    assert data == DATA
    assert sent == {
        "etag": f'"{SHA}"',
        "cache-control": f"public, max-age={kept_s}, immutable",
        "x-content-type-options": "nosniff",
    }


async def test_an_unchanged_picture_is_not_sent_again(bench: Bench) -> None:
    for data, _, sent in (await bench.image(0, f'"{SHA}"'), await bench.linked(NOW + 9, f'W/"{SHA}"')):
        assert (data, sent["x-http-code"], sent["etag"]) == (b"", "304", f'"{SHA}"')


async def test_what_is_not_there(bench: Bench) -> None:
    with pytest.raises(NotFound) as caught:
        await bench.image(index=1)
    assert caught.value.reason == "IMAGE_NOT_FOUND"
    with pytest.raises(NotFound) as caught:
        await bench.linked(NOW)
    assert caught.value.reason == "LINK_INVALID"


async def test_a_deleted_picture_is_gone_both_ways_even_for_who_has_it(bench: Bench) -> None:
    await bench.blobs.delete(image_key(SHA))
    for asked in (bench.image(), bench.linked(NOW + 9), bench.image(0, f'"{SHA}"'), bench.linked(NOW + 9, "*")):
        with pytest.raises(NotFound):
            await asked


@pytest.mark.parametrize(
    ("header", "same"), [('"a"', True), ('"b", W/"a"', True), ("*", True), ('"ab"', False), ("", False)]
)
def test_entity_tags(header: str, same: bool) -> None:
    assert matches(header, "a") is same
