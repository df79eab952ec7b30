"""Retries that wait for their time before they line up."""

from __future__ import annotations

import heapq
from collections import Counter

from libs.ids import JobId
from services.scheduler.order.waiting import Waiting


class Resting:
    """Jobs with a time before which they must not start. One that was taken out is skipped when its time comes."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Waiting] = {}
        self.by_tier: Counter[str] = Counter()  # how many
        self._times: list[tuple[float, int, JobId]] = []
        self._number = 0

    def fork(self) -> Resting:
        """Return one that goes its own way."""
        twin = Resting()
        twin.jobs, twin._times, twin._number = self.jobs.copy(), self._times.copy(), self._number
        twin.by_tier = self.by_tier.copy()
        return twin

    def add(self, waiting: Waiting) -> None:
        """Put a job in."""
        self._number += 1
        self.pop(waiting.job_id)
        self.jobs[waiting.job_id] = waiting
        self.by_tier[waiting.tier] += 1
        heapq.heappush(self._times, (waiting.not_before, self._number, waiting.job_id))

    def pop(self, job_id: JobId) -> Waiting | None:
        """Take a job out; None when it is not there."""
        waiting = self.jobs.pop(job_id, None)
        if waiting is not None:
            self.by_tier[waiting.tier] -= 1
        return waiting

    def due(self, now: float) -> list[Waiting]:
        """Take out the jobs whose time has come."""
        found = []
        while self._times and self._times[0][0] <= now:
            _, _, job_id = heapq.heappop(self._times)
            waiting = self.jobs.get(job_id)
            if waiting is not None and waiting.not_before <= now:
                self.pop(job_id)
                found.append(waiting)
        return found

    def next_time(self) -> float | None:
        """Return when the next job is due."""
        while self._times and self._times[0][2] not in self.jobs:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else None
