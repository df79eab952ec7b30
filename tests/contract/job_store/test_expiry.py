"""Pictures on a disk around the moment their time is over: what somebody was given is there, what nobody has goes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from libs.blobs.opening import open_blobs
from libs.blobs.store import BlobStore, image_key
from libs.errors import NotFound
from libs.testing.clock import ManualClock
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.instruments import Instruments
from services.scheduler.job import Job, JobState
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.replicas.lead import Lead
from services.scheduler.results.keeping import RESULT_LIFE_S, Results
from services.scheduler.results.reuse import MARGIN_S, Terms
from services.scheduler.results.sweeper import ResultSweeper
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.wishes import Start
from tests.contract.job_store.samples import NOW, WORKER, a_job, a_requeue, a_success, an_image

PICTURE = b"the bytes of a picture"
SHA256 = hashlib.sha256(PICTURE).hexdigest()


class Shop:
    """A store, a disk and a clock that stands still; pictures live a day."""

    def __init__(self, store: JobStore, folder: Path) -> None:
        self.store, self.clock = store, ManualClock(NOW)
        self.blobs: BlobStore = open_blobs(str(folder / "blobs"))
        jobs = OpenJobs(WatchHub(store, self.clock), Instruments(), self.clock)
        self.sweeper = ResultSweeper(store, jobs, Results(self.blobs), self.clock, Lead(1, serving=True))

    async def ask(self, number: int) -> Job:
        now = self.clock.now()
        job = a_job(number, cache_key="k" * 64, created_at=now, queued_at=now)
        return (await self.store.accept_reusing(job, [], Terms(now, now + RESULT_LIFE_S))).job

    async def draw(self, job: Job) -> Job:
        """Run an attempt up to the moment its picture is stored."""
        start = Start(job.id, job.attempt + 1, WORKER, 1, self.clock.now())
        started = await self.store.start(start)
        assert started is not None
        await self.blobs.put(image_key(SHA256), PICTURE, "image/png")
        return started

    async def commit(self, job: Job) -> Job:
        expires_at = self.clock.now() + RESULT_LIFE_S
        ended = await self.store.end(a_success(job, images=(an_image(0, SHA256),), outbox=(), expires_at=expires_at))
        assert ended is not None
        return ended

    async def sweep(self, after_s: float = 0.0) -> None:
        await self.clock.advance(after_s)
        await self.sweeper.sweep(lists=True)

    async def fetch(self) -> bytes:
        return b"".join([chunk async for chunk in self.blobs.get_stream(image_key(SHA256))])

    async def is_gone(self) -> bool:
        try:
            await self.fetch()
        except NotFound:
            return await self.store.unknown([SHA256]) == []  # a mark is left for a while
        return False


@pytest.fixture
def shop(store: JobStore, tmp_path: Path) -> Shop:
    return Shop(store, tmp_path)


async def test_a_hit_when_just_enough_time_is_left_keeps_the_picture_for_another_day(shop: Shop) -> None:
    await shop.commit(await shop.draw(await shop.ask(1)))
    await shop.sweep(RESULT_LIFE_S - MARGIN_S - 1)
    hit = await shop.ask(2)
    assert (hit.state, hit.cache) == (JobState.SUCCEEDED, "HIT")
    await shop.sweep(MARGIN_S + 2)
    assert await shop.fetch() == PICTURE
    await shop.sweep(RESULT_LIFE_S - MARGIN_S - 3)
    assert await shop.fetch() == PICTURE
    await shop.sweep(1.0)
    assert await shop.is_gone()


async def test_a_minute_before_its_end_a_picture_is_drawn_anew_and_lies_on(shop: Shop) -> None:
    await shop.commit(await shop.draw(await shop.ask(1)))
    await shop.sweep(RESULT_LIFE_S - 60)
    again = await shop.ask(2)
    assert (again.state, again.cache) == (JobState.QUEUED, "MISS")
    drawn = await shop.draw(again)  # its worker finds the picture there
    await shop.sweep(30.0)
    await shop.commit(drawn)
    await shop.sweep(31.0)
    assert await shop.fetch() == PICTURE
    await shop.sweep(RESULT_LIFE_S)
    assert await shop.is_gone()


async def test_a_picture_whose_commit_was_lost_goes_after_a_day(shop: Shop) -> None:
    lost = await shop.draw(await shop.ask(1))
    await shop.store.requeue(a_requeue(lost))
    await shop.sweep()
    await shop.sweep(RESULT_LIFE_S - 1)
    assert await shop.fetch() == PICTURE
    await shop.sweep(1.0)
    assert await shop.is_gone()


async def test_a_picture_whose_commit_was_lost_stays_for_who_brings_it_again(shop: Shop) -> None:
    lost = await shop.draw(await shop.ask(1))
    await shop.store.requeue(a_requeue(lost))
    await shop.sweep()
    await shop.clock.advance(RESULT_LIFE_S - 60)
    waiting = await shop.store.get(lost.id)
    assert waiting is not None
    ended = await shop.store.end(
        a_success(
            *(await shop.draw(waiting), 2),
            images=(an_image(0, SHA256),),
            outbox=(),
            expires_at=shop.clock.now() + RESULT_LIFE_S,
        )
    )
    assert ended is not None
    await shop.sweep(60.0)
    await shop.sweep(RESULT_LIFE_S - 61)
    assert await shop.fetch() == PICTURE
    await shop.sweep(1.0)
    assert await shop.is_gone()
