"""Removes what is over: pictures, uploads, records. Marked in SQL before an object goes.

An object that nothing tells of (the result of an attempt whose commit was lost) goes once it was seen so for as long
as results live; a restart counts anew. Uploads stay while a job that waits names them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from libs.blobs.store import image_key
from libs.blobs.uploads import UPLOADS, expires_at
from libs.clock import Clock
from libs.errors import DarkroomError
from libs.ids import UploadId
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.replicas.lead import Lead
from services.scheduler.results.keeping import Results
from services.scheduler.results.removal import Removal
from services.scheduler.storage.store import JobStore, StoreUnavailable

logger = logging.getLogger(__name__)

ROUND_S, LISTING_S = 60.0, 3600.0
BATCH = 500


class ResultSweeper:
    """Sweeps while `run` runs. `removal` may be used beside it."""

    def __init__(self, store: JobStore, jobs: OpenJobs, results: Results, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._jobs = jobs
        self._blobs, self._keeping = results.blobs, results.keeping
        self.removal = Removal(store, results.blobs, clock, lead)
        self._clock = clock
        self._lead = lead
        self._unknown_since: dict[str, float] = {}

    async def run(self) -> None:
        """Sweep until cancelled. Raises Deposed."""
        next_listing = 0.0
        while True:
            lists = self._clock.now() >= next_listing
            if lists:
                next_listing = self._clock.now() + LISTING_S
            try:
                await self.sweep(lists=lists)
            except (DarkroomError, StoreUnavailable, ValueError) as error:  # the next round goes on
                logger.warning("results not swept", extra={"cause": str(error)})
            await self._clock.sleep(ROUND_S)

    async def sweep(self, *, lists: bool) -> None:
        """Remove what is over; with `lists`, look also for what nothing tells of. Raises what store and blobs raise."""
        now = self._clock.now()
        if lists:
            await self._list_pictures(now)
            await self._sweep_uploads(now)
        pictures = await _all_of(lambda: self._sweep_pictures(now))
        before = now - self._keeping.record_life_s
        records = await _all_of(lambda: self._store.forget_records(self._lead.epoch, before, BATCH))
        if pictures or records:
            logger.info("swept", extra={"pictures": pictures, "records": records})

    async def _sweep_pictures(self, now: float) -> int:
        """Remove a batch of pictures whose time is over; returns how many went."""
        return await self.removal.remove(await self._store.doom(self._lead.epoch, now, BATCH))

    async def _list_pictures(self, now: float) -> None:
        hashes = [key.partition("/")[2] async for key in self._blobs.list_keys("images") if _is_picture(key)]
        unknown: dict[str, float] = {}
        for start in range(0, len(hashes), BATCH):
            for sha256 in await self._store.unknown(hashes[start : start + BATCH]):
                unknown[sha256] = self._unknown_since.get(sha256, now)
        self._unknown_since = unknown
        old = [sha256 for sha256, since in unknown.items() if since <= now - self._keeping.result_life_s]
        for start in range(0, len(old), BATCH):
            await self._store.doom_unknown(old[start : start + BATCH], self._lead.epoch, now)

    async def _sweep_uploads(self, now: float) -> None:
        specs = [job.spec for job in self._jobs.all()]
        named = {upload for spec in specs for upload in (spec.input_image, spec.mask_image)}
        async for key in self._blobs.list_keys(UPLOADS):
            upload = UploadId(key.rpartition("/")[2])
            # A job that named it in the last moment may not be known here yet.
            if upload not in named and expires_at(upload) + LISTING_S < now:
                await self._blobs.delete(key)


async def _all_of(sweep: Callable[[], Awaitable[int]]) -> int:
    """Sweep batch after batch while they are full: more may end in a minute than one holds. Returns the sum."""
    total = 0
    while (swept := await sweep()) > 0:
        total += swept
        if swept < BATCH:
            break
    return total


def _is_picture(key: str) -> bool:
    """Return whether an object has the name of a picture; what else lies there is not ours."""
    try:
        return key == image_key(key.partition("/")[2])
    except ValueError:
        return False
