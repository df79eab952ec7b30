"""Removes what is over: pictures, uploads, records. Marked in SQL before an object goes.

An object that no job refers to (the result of an attempt whose commit was lost) goes once it was seen so for as long
as results live; a restart counts anew. Uploads stay while a job that waits names them.
"""

from __future__ import annotations

import logging

from libs.blobs.store import image_key
from libs.blobs.uploads import UPLOADS, expires_at
from libs.clock import Clock
from libs.errors import DarkroomError
from libs.ids import UploadId
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.replicas.lead import Lead
from services.scheduler.results.keeping import Results
from services.scheduler.storage.store import JobStore, StoreUnavailable

logger = logging.getLogger(__name__)

ROUND_S, LISTING_S = 60.0, 3600.0
BATCH = 500


class ResultSweeper:
    """Sweeps while `run` runs."""

    def __init__(self, store: JobStore, jobs: OpenJobs, results: Results, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._jobs = jobs
        self._blobs, self._keeping = results.blobs, results.keeping
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
                await self._round(lists=lists)
            except (DarkroomError, StoreUnavailable, ValueError) as error:  # the next round goes on
                logger.warning("results not swept", extra={"cause": str(error)})
            await self._clock.sleep(ROUND_S)

    async def _round(self, *, lists: bool) -> None:
        now = self._clock.now()
        if lists:
            await self._list_pictures(now)
            await self._sweep_uploads(now)
        doomed = await self._store.doom(self._lead.epoch, now, BATCH)
        for sha256 in doomed:
            await self._blobs.delete(image_key(sha256))
        await self._store.removed(doomed, self._lead.epoch, self._clock.now())
        forgotten = await self._store.forget_records(self._lead.epoch, now - self._keeping.record_life_s, BATCH)
        if doomed or forgotten:
            logger.info("swept", extra={"pictures": len(doomed), "records": forgotten})

    async def _list_pictures(self, now: float) -> None:
        hashes = [key.split("/")[1] async for key in self._blobs.list_keys("images")]
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
