"""Jobs that are not ended, with what only memory knows of them. There may be a million: what few need is made late."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from libs.fleet.record import WorkerRecord
from libs.ids import JobId, WorkerId
from services.scheduler.job import Job, JobState


@dataclass(slots=True)
class OpenJob:
    """A job and its run."""

    job: Job
    worker: WorkerRecord | None = None
    followed: bool = False  # an attempt of it is, here
    avoid: frozenset[WorkerId] = frozenset()
    alone: bool = False  # its next attempts want a worker of their own
    recalled: bool = False  # its worker was told to give it back
    drew: bool = False  # an attempt at it told progress, counted or not
    _stop: asyncio.Event | None = None
    _ended: asyncio.Event | None = None

    def stop_signal(self) -> asyncio.Event:
        """Return the signal that its owner wants it stopped."""
        self._stop = self._stop or asyncio.Event()
        return self._stop

    def ended_signal(self) -> asyncio.Event:
        """Return the signal that it is open no more."""
        self._ended = self._ended or asyncio.Event()
        return self._ended

    def gone(self) -> None:
        """Tell whoever waits for its end."""
        if self._ended is not None:
            self._ended.set()

    def take_over(self, before: OpenJob) -> None:
        """Go on with the run of another job, for which somebody may hold the signal to stop."""
        self.worker, self.followed, self.drew = before.worker, True, before.drew
        self._stop = before.stop_signal()


class Book:
    """Open jobs by id, and which of them run."""

    def __init__(self) -> None:
        self._all: dict[JobId, OpenJob] = {}
        self._running: dict[JobId, OpenJob] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._all

    def get(self, job_id: JobId) -> OpenJob | None:
        """Return an open job."""
        return self._all.get(job_id)

    def came_back(self, ended: Job) -> bool:
        """Return whether an operator brought a job back while whoever ended it waited for the answer."""
        known = self._all.get(ended.id)
        return known is not None and known.job.revivals > ended.revivals

    def keep(self, job: Job) -> OpenJob:
        """Take a job as it is now."""
        entry = self._all.get(job.id)
        if entry is None:
            entry = self._all[job.id] = OpenJob(job)
        entry.job = job
        if job.state is JobState.RUNNING:
            self._running[job.id] = entry
        else:
            self._running.pop(job.id, None)
        return entry

    def forget(self, job_id: JobId) -> None:
        """A job is open no more, if it was."""
        self._running.pop(job_id, None)
        entry = self._all.pop(job_id, None)
        if entry is not None:
            entry.gone()

    def all(self) -> list[Job]:
        """Return every job."""
        return [entry.job for entry in self._all.values()]

    def running(self) -> list[Job]:
        """Return the jobs with an attempt on a worker."""
        return [entry.job for entry in self._running.values()]
