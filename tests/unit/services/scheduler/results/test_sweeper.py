"""The sweep, round by round: what is over goes, what somebody may still want stays."""

from __future__ import annotations

import asyncio

import pytest

from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import image_key
from libs.blobs.uploads import LIFE_S, upload_key
from libs.errors import Unavailable
from libs.ids import UploadId, new_job_id
from libs.testing.clock import ManualClock
from services.scheduler.replicas.lead import Lead
from services.scheduler.results.keeping import RECORD_LIFE_S, RESULT_LIFE_S, Results
from services.scheduler.results.memory_results import Blob
from services.scheduler.results.removal import LIMIT_S, Removal
from services.scheduler.results.sweeper import BATCH, LISTING_S, ResultSweeper
from services.scheduler.storage.memory_store import MemoryStore
from tests.unit.services.scheduler.fakes import TENANT, Bench, record, spec

PICTURE = image_key(f"{0:064x}")


async def after(bench: Bench, seconds: float) -> None:
    """Sweep once at a later time, while nothing else runs."""
    await bench.clock.advance(seconds)
    lead = Lead(bench.scheduler.reconciler.epoch, serving=True)
    sweeper = ResultSweeper(bench.store, bench.scheduler.jobs, Results(bench.blobs), bench.clock, lead)
    await sweeper.sweep(lists=True)


async def test_a_picture_goes_with_its_time_and_the_record_later() -> None:
    bench = Bench()
    async with bench.running():
        await bench.workers(record())
        await bench.blobs.put(PICTURE, b"png", "image/png")
        job = await bench.submit()
        await bench.now(job.id)
    await after(bench, RESULT_LIFE_S - 60)
    assert await bench.blobs.exists(PICTURE)
    await after(bench, 61)
    assert not await bench.blobs.exists(PICTURE)
    assert await bench.store.get(job.id) is not None
    await after(bench, RECORD_LIFE_S)
    assert await bench.store.get(job.id) is None


async def test_uploads_go_after_a_day_unless_a_waiting_job_names_them() -> None:
    bench = Bench()
    async with bench.running():
        free, named = (UploadId(f"upl_{new_job_id(bench.clock.now())[4:]}") for _ in range(2))
        for upload in (free, named):
            await bench.blobs.put(upload_key(TENANT, upload), b"png", "image/png")
        await bench.submit(spec=spec(input_image=named))
    await after(bench, LIFE_S + LISTING_S + 1)
    assert [await bench.blobs.exists(upload_key(TENANT, upload)) for upload in (free, named)] == [False, True]


async def test_a_result_whose_commit_was_lost_goes_a_day_later() -> None:
    bench = Bench()
    async with bench.running() as scheduler:
        await bench.blobs.put(PICTURE, b"png", "image/png")
    lead = Lead(scheduler.reconciler.epoch, serving=True)
    sweeper = ResultSweeper(bench.store, scheduler.jobs, Results(bench.blobs), bench.clock, lead)
    for seconds, lies in ((0.0, True), (RESULT_LIFE_S - 1, True), (1.0, False)):
        await bench.clock.advance(seconds)
        await sweeper.sweep(lists=True)
        assert await bench.blobs.exists(PICTURE) is lies


async def test_more_than_a_batch_goes_in_one_round() -> None:
    bench = Bench()
    async with bench.running():
        for number in range(2 * BATCH + 1):
            bench.store._blobs[f"{number:064x}"] = Blob(expires_at=bench.clock.now() + 60.0)
    await after(bench, 61.0)
    assert all(blob.removed_at is not None for blob in bench.store._blobs.values())


async def test_a_picture_that_cannot_be_removed_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    async with bench.running():
        for number in range(3):
            bench.store._blobs[f"{number:064x}"] = Blob(expires_at=bench.clock.now() + 60.0)
    delete = bench.blobs.delete

    async def stuck(key: str) -> None:
        if key == image_key(f"{0:064x}"):
            raise Unavailable("the store does not answer")
        await delete(key)

    monkeypatch.setattr(bench.blobs, "delete", stuck)
    await after(bench, 61.0)
    assert [blob.removed_at is not None for blob in bench.store._blobs.values()] == [False, True, True]


class Stuck(MemoryBlobs):
    """Does not answer a deletion, and does it when it is let go on."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()

    async def delete(self, key: str) -> None:
        await self.goes_on.wait()
        await super().delete(key)


async def test_a_deletion_that_waited_too_long_is_not_begun_and_not_noted() -> None:
    store, clock, blobs = MemoryStore(), ManualClock(), Stuck()
    lead = Lead(await store.take_lead("scheduler-0", 0.0), serving=True)
    await blobs.put(PICTURE, b"png", "image/png")
    sha256 = PICTURE.partition("/")[2]
    await store.doom_unknown([sha256], lead.epoch, clock.now())
    removing = asyncio.create_task(Removal(store, blobs, clock, lead).remove([sha256]))
    await clock.advance(LIMIT_S)
    assert await removing == 0
    blobs.goes_on.set()
    await clock.settle()
    assert await blobs.exists(PICTURE)
    assert await store.doom(lead.epoch, clock.now(), 9) == [sha256]


async def test_what_is_no_picture_among_the_pictures_is_left_alone() -> None:
    bench = Bench()
    async with bench.running():
        await bench.blobs.put("images/README.txt", b"mine", "text/plain")
    await after(bench, 0.0)
    await after(bench, RESULT_LIFE_S)
    assert await bench.blobs.exists("images/README.txt")
