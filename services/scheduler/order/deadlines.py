"""When waiting jobs expire: a heap that forgets ended jobs seldom, as a deadline may be a week away. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Container, Sized
from typing import Protocol

from libs.ids import JobId


class Known(Container[JobId], Sized, Protocol):
    """The jobs that are open."""


class Deadlines:
    """Deadlines in Unix seconds, also of jobs that have ended or begun meanwhile."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, JobId]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, job_id: JobId, known: Known) -> None:
        """Note a deadline; `known` are the jobs whose deadlines still matter."""
        heapq.heappush(self._heap, (at, job_id))
        if len(self._heap) > 2 * len(known) + 64:
            self._heap = list({entry for entry in self._heap if entry[1] in known})
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """Return the next deadline."""
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[JobId]:
        """Return the jobs whose deadline has passed, and forget it."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[1])
        return due
