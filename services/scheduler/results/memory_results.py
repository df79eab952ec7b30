"""Giving results again, in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from libs.ids import JobId
from services.scheduler.job import AttemptRecord, Job, JobState, OutboxMessage
from services.scheduler.results import reuse, takeover
from services.scheduler.results.shelf import Shelf
from services.scheduler.results.store import REMOVAL_MARGIN_S, HandOver, PicturesSwept
from services.scheduler.storage.changes import Step


@dataclass(frozen=True, slots=True)
class Blob:
    """A picture that lies, or lay. Times in Unix seconds, as in the table `blobs`."""

    expires_at: float | None
    doomed_at: float | None = None
    removed_at: float | None = None


class MemoryResults:
    """The part of the memory store that gives results again."""

    _jobs: dict[JobId, Job]
    _deleted: set[JobId]
    _attempts: dict[JobId, list[AttemptRecord]]
    _blobs: dict[str, Blob]

    async def follow(self, job_id: JobId, epoch: int, now: float) -> Job | None:
        """Bring a joiner to the end of its run, or set it free."""
        joiner = self._fenced(job_id, epoch)
        if joiner is None or not reuse.waits_for_a_run(joiner):
            return None
        run = None if joiner.drawn_by in self._deleted else self._jobs.get(joiner.drawn_by)
        if run is not None and run.open and run.cache == reuse.MISS:
            return None
        written = reuse.followed(joiner, run, now)
        if written is not None and run is not None and all(image.sha256 in self._lying() for image in run.images):
            return self._apply(written.step, written.outbox)
        return self._apply(reuse.released(joiner, self._alike(), now))

    async def hand_over(self, order: HandOver) -> tuple[Job, Job] | None:
        """Cancel a running job and make its heir the runner."""
        job, heir = self._fenced(order.job_id, order.epoch), self._fenced(order.heir, order.epoch)
        attempt = next((each for each in self._attempts.get(order.job_id, ()) if each.attempt == order.attempt), None)
        taken = takeover.handed_over(job, heir, attempt, order)
        if taken is None:
            return None
        for _, step, outbox in taken:
            self._apply(step, outbox)
        for each in list(self._jobs.values()):
            if each.state is JobState.QUEUED and each.drawn_by == order.job_id:
                self._jobs[each.id] = each.evolve(drawn_by=order.heir)
        return taken[0][1].job, taken[1][1].job

    def _shelf(self, job: Job) -> Shelf:
        return Shelf(self._alike(), self._lying()) if job.cache_key else Shelf()

    def _alike(self) -> list[Job]:
        drawn = [job for job in self._jobs.values() if job.cache == reuse.MISS and job.id not in self._deleted]
        return sorted(drawn, key=lambda job: (job.created_at, job.id), reverse=True)

    def _lying(self) -> dict[str, float | None]:
        return {sha: blob.expires_at for sha, blob in self._blobs.items() if blob.doomed_at is None}

    def _keep(self, job: Job) -> None:
        """Keep a job's pictures at least as long as its results. Raises PicturesSwept, with nothing changed."""
        if not job.images:
            return
        began_at = self._attempts[job.id][job.attempt - 1].started_at if job.attempt else 0.0
        kept: dict[str, Blob] = {}
        for image in job.images:
            blob = self._blobs.get(image.sha256, Blob(job.expires_at))
            if blob.doomed_at is not None and not (blob.removed_at or began_at) < began_at - REMOVAL_MARGIN_S:
                raise PicturesSwept(f"pictures of {job.id} are being removed")
            times = (blob.expires_at, job.expires_at)
            latest = None if None in times else max(time for time in times if time is not None)
            kept[image.sha256] = replace(blob, expires_at=latest, doomed_at=None, removed_at=None)
        self._blobs.update(kept)

    def _let_go(self, hashes: Collection[str], now: float, *, spare: bool) -> tuple[str, ...]:
        """Mark pictures that nobody refers to, or forget them; return those that are marked by this."""
        lying = sorted(self._lying().keys() & hashes)
        for sha256 in lying:
            if spare:
                del self._blobs[sha256]
            else:
                self._blobs[sha256] = replace(self._blobs[sha256], doomed_at=now)
        return () if spare else tuple(lying)

    def _fenced(self, job_id: JobId, epoch: int) -> Job | None:
        raise NotImplementedError

    def _apply(self, step: Step | None, outbox: Sequence[OutboxMessage] = ()) -> Job | None:
        raise NotImplementedError
