"""Removing what is over, in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from libs.ids import JobId
from services.scheduler.job import AttemptRecord, DurableEvent, Job
from services.scheduler.results.memory_results import Blob
from services.scheduler.results.store import TOMBSTONE_S


class MemoryRetention:
    """The part of the memory store that forgets."""

    _jobs: dict[JobId, Job]
    _attempts: dict[JobId, list[AttemptRecord]]
    _events: dict[JobId, list[DurableEvent]]
    _blobs: dict[str, Blob]

    async def doom(self, epoch: int, now: float, limit: int) -> list[str]:
        """Mark pictures whose time is over; return those that are marked and not removed."""
        self._check(epoch)
        for sha, blob in self._blobs.items():
            if blob.doomed_at is None and blob.expires_at is not None and blob.expires_at <= now:
                self._blobs[sha] = replace(blob, doomed_at=now)
        return [sha for sha, b in self._blobs.items() if b.doomed_at is not None and b.removed_at is None][:limit]

    async def doom_unknown(self, hashes: Collection[str], epoch: int, now: float) -> None:
        """Mark objects that no job refers to."""
        self._check(epoch)
        for sha in hashes:
            self._blobs.setdefault(sha, Blob(now, doomed_at=now))

    async def removed(self, hashes: Collection[str], epoch: int, now: float) -> None:
        """Note that doomed objects are gone, and forget those that have been for long."""
        self._check(epoch)
        for sha, blob in list(self._blobs.items()):
            if sha in hashes and blob.doomed_at is not None:
                self._blobs[sha] = replace(blob, removed_at=now)
            elif blob.removed_at is not None and blob.removed_at < now - TOMBSTONE_S:
                del self._blobs[sha]

    async def unknown(self, hashes: Collection[str]) -> list[str]:
        """Return which of these pictures nothing tells of."""
        return sorted({*hashes} - self._blobs.keys())

    async def forget_records(self, epoch: int, before: float, limit: int) -> int:
        """Remove jobs that ended before a moment."""
        self._check(epoch)
        old = [j.id for j in self._jobs.values() if j.finished_at is not None and j.finished_at < before][:limit]
        for job_id in old:
            del self._jobs[job_id]
            self._attempts.pop(job_id, None)
            self._events.pop(job_id, None)
            self._forget_deliveries(job_id)
        return len(old)

    def _check(self, epoch: int) -> None:
        raise NotImplementedError

    def _forget_deliveries(self, job_id: JobId) -> None:
        raise NotImplementedError
