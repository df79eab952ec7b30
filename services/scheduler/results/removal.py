"""Deletes objects that are marked in SQL, and writes down that they are gone.

Several may do so at once: the sweep, an owner who deletes a job, the leader before this one. So that none deletes what
was stored anew after another had removed it, a deletion is begun within LIMIT_S of the moment its mark was read, or not
at all; what attempts bring counts as stored anew only REMOVAL_MARGIN_S after a removal, which is longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from libs.alarm import first
from libs.blobs.store import BlobStore, image_key
from libs.clock import Clock
from libs.errors import DarkroomError
from services.scheduler.replicas.lead import Lead
from services.scheduler.results.store import REMOVAL_MARGIN_S
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)

LIMIT_S = REMOVAL_MARGIN_S * 2 / 3
_AT_ONCE = 16


class Removal:
    """Removes pictures. What it does not get done stays marked: the next sweep goes on."""

    def __init__(self, store: JobStore, blobs: BlobStore, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._lead = lead

    async def remove(self, marked: Sequence[str]) -> int:
        """Delete pictures whose marks were read just now; returns how many are gone. Raises StoreUnavailable, Deposed."""
        gone: list[str] = []
        if marked:
            await first(self._delete_all(marked, gone), self._clock.sleep(LIMIT_S))
        await self._store.removed(gone, self._lead.epoch, self._clock.now())
        return len(gone)

    async def _delete_all(self, hashes: Sequence[str], gone: list[str]) -> None:
        for start in range(0, len(hashes), _AT_ONCE):
            await asyncio.gather(*(self._delete(sha256, gone) for sha256 in hashes[start : start + _AT_ONCE]))

    async def _delete(self, sha256: str, gone: list[str]) -> None:
        try:
            await self._blobs.delete(image_key(sha256))
        except (DarkroomError, ValueError) as error:  # nobody can come to refer to it
            logger.warning("a picture could not be removed", extra={"sha256": sha256, "cause": str(error)})
        else:
            gone.append(sha256)
