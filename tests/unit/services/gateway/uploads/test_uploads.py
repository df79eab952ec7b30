"""Taking pictures in: whose they are, how long they are good, and what is refused on the way."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import threading
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from libs.blobs.memory import MemoryBlobs
from libs.blobs.uploads import LIFE_S, expires_at, upload_key
from libs.clients.limiter import Denial
from libs.errors import DarkroomError, Unavailable
from libs.generation.spec import GenerationSpec
from libs.ids import TenantId, UploadId
from libs.rpc import headers
from libs.testing.clock import ManualClock
from libs.testing.waiting import until
from services.gateway.callers.identity import Caller
from services.gateway.uploads import uploads
from services.gateway.uploads.pictures import Picture, read_picture
from services.gateway.uploads.uploads import Uploads
from tests.unit.services.gateway.fakes import CALLER, NOW, FakeLimiter

SPEC = GenerationSpec("a", "", "m", 64, 64, 1, 4, 1.0, 0, "euler")


def picture() -> bytes:
    kept = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(kept, format="PNG")
    return kept.getvalue()


def tenant(number: int) -> Caller:
    return Caller(TenantId(f"anon:::{number}"), "anonymous")


async def parts(*data: bytes) -> AsyncIterator[bytes]:
    for part in data:
        yield part


class Bench:
    def __init__(self) -> None:
        self.blobs, self.limiter, self.clock = MemoryBlobs(), FakeLimiter(), ManualClock(NOW)
        self.uploads = Uploads(self.blobs, self.limiter, self.clock)

    async def refused(self, *data: bytes) -> DarkroomError:
        with pytest.raises(DarkroomError) as caught:
            await self.uploads.take(CALLER, parts(*data))
        return caught.value

    async def reason_of(self, tenant_id: str, **named: str) -> str:
        try:
            await self.uploads.check(TenantId(tenant_id), dataclasses.replace(SPEC, **named))  # type: ignore[arg-type]
        except DarkroomError as error:
            return error.reason
        return ""


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_picture_in_parts_is_kept_for_a_day(bench: Bench) -> None:
    data = picture()
    upload = await bench.uploads.take(CALLER, parts(data[:9], b"", data[9:]))
    assert (upload.content_type, upload.width, upload.height, upload.size_bytes) == ("image/png", 6, 4, len(data))
    assert upload.id.startswith("upl_")
    assert upload.expire_time.seconds == NOW + LIFE_S == expires_at(UploadId(upload.id))
    assert await bench.blobs.exists(upload_key(CALLER.tenant_id, UploadId(upload.id)))
    assert await bench.reason_of("acme", input_image=upload.id, mask_image=upload.id) == ""


async def test_it_is_nobody_elses(bench: Bench) -> None:
    upload = await bench.uploads.take(Caller(TenantId("anon:::1"), "anonymous"), parts(picture()))
    assert await bench.reason_of("anon:::1", mask_image=upload.id) == ""
    assert await bench.reason_of("acme", mask_image=upload.id) == "UPLOAD_NOT_FOUND"
    assert await bench.reason_of("anon:::1", input_image="upl_01HF7YAT000000000000000000") != ""


async def test_after_a_day_it_is_over(bench: Bench) -> None:
    upload = await bench.uploads.take(CALLER, parts(picture()))
    later = Uploads(bench.blobs, bench.limiter, ManualClock(NOW + LIFE_S))
    with pytest.raises(DarkroomError) as over:
        await later.check(CALLER.tenant_id, dataclasses.replace(SPEC, input_image=upload.id))
    assert (over.value.reason, over.value.metadata["field"]) == ("UPLOAD_EXPIRED", "input_image")


async def test_an_upload_is_a_request_without_units(bench: Bench) -> None:
    await bench.uploads.take(CALLER, parts(picture()))
    (taken,) = bench.limiter.reserved
    assert (taken.units, taken.images, taken.tenant_id, taken.tier) == (0.0, 0, "acme", "pro")
    bench.limiter.denial = Denial("requests", 5, 0, 12.0)
    error = await bench.refused(picture())
    assert (error.reason, error.retry_after_s) == ("RPM_EXHAUSTED", 12.0)
    bench.limiter.denial = Denial("cost", 500, 0, 3.0)
    assert (await bench.refused(picture())).reason == "GPU_COST_EXHAUSTED"


async def test_a_body_without_end_is_left_where_it_gets_too_long(bench: Bench) -> None:
    read = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(1)
            yield bytes(1_000_000)

    collected = headers.begin()
    with pytest.raises(DarkroomError) as caught:
        await bench.uploads.take(CALLER, endless())
    assert (caught.value.reason, len(read), collected["x-http-code"]) == ("REQUEST_TOO_LARGE", 21, "413")


async def test_what_is_no_picture_is_not_kept(bench: Bench) -> None:
    assert (await bench.refused()).reason == "PICTURE_UNREADABLE"
    assert (await bench.refused(b"no", b" picture")).reason == "PICTURE_UNREADABLE"
    assert not bench.blobs._objects


async def test_only_so_many_come_in_at_once(bench: Bench) -> None:
    arrived, all_wait, waiting = asyncio.Event(), asyncio.Event(), 0

    async def stalled() -> AsyncIterator[bytes]:
        nonlocal waiting
        waiting += 1
        if waiting == 16:
            all_wait.set()
        await arrived.wait()
        yield picture()

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(bench.uploads.take(tenant(each % 4), stalled())) for each in range(16)]
        async with asyncio.timeout(5):
            await all_wait.wait()
        with pytest.raises(Unavailable) as full:
            await bench.uploads.take(tenant(4), parts(picture()))
        assert full.value.retry_after_s
        arrived.set()
    assert len({call.result().id for call in calls}) == 16
    await bench.uploads.take(CALLER, parts(picture()))


async def test_one_tenant_does_not_take_the_places_of_all(bench: Bench) -> None:
    never = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    calls = [asyncio.create_task(bench.uploads.take(tenant(0), stalled())) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await bench.uploads.take(tenant(0), parts(picture()))
    await bench.uploads.take(tenant(1), parts(picture()))
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await bench.uploads.take(tenant(0), parts(picture()))


async def test_whoever_goes_away_keeps_the_place_until_the_thread_is_through(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(data: bytes) -> Picture:
        begun.release()
        assert go_on.wait(5)
        return read_picture(data)

    monkeypatch.setattr(uploads, "read_picture", slow)
    calls = [asyncio.create_task(bench.uploads.take(tenant(0), parts(picture()))) for _ in range(2)]
    for _ in calls:
        assert await asyncio.to_thread(begun.acquire, timeout=5)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert bench.uploads._decoding.locked()
    assert bench.uploads._taken == {"anon:::0": 2}
    go_on.set()
    async with asyncio.timeout(5):
        await bench.uploads.take(tenant(0), parts(picture()))

    async def all_have_left() -> bool:
        return not bench.uploads._taken

    await until(all_have_left, within_s=5)  # one of the two threads may still be at work when the other let this one in
