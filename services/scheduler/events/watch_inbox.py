"""What one reader of a job has not been told yet of what passes: the latest wins, and not too often. Pure.

Progress and previews of one reader leave at most every MIN_GAP_S; only the latest of each waits. The first and the
last step of an attempt are exempt: they always leave, and in order. Reports of an attempt that is over are dropped.
"""

from __future__ import annotations

from collections import deque

from libs.clients.modelserver import Preview, Progress

Transient = Progress | Preview

MIN_GAP_S = 0.1


class Inbox:
    """The transient events that wait for one reader. Bounded, whatever the reader does."""

    def __init__(self) -> None:
        self._certain: deque[Progress] = deque()  # first and last steps
        self._latest: dict[type[Transient], Transient] = {}  # oldest kind first, so that none starves
        self._attempt = 0  # reports of lower attempts are dropped
        self._begun = 0  # the attempt whose first progress was taken in
        self._sent_at = float("-inf")

    def put(self, item: Transient) -> None:
        """Take in what was reported."""
        if item.attempt < self._attempt:
            return
        self.started(item.attempt)
        begins = isinstance(item, Progress) and item.attempt > self._begun
        if isinstance(item, Progress) and (begins or item.step >= item.total):
            self._begun = item.attempt
            self._latest.pop(Progress, None)
            self._certain.append(item)
        else:
            self._latest[type(item)] = item  # a key that is there keeps its place

    def take(self, now: float) -> list[Transient]:
        """Return what may leave now, in order."""
        leaving: list[Transient] = list(self._certain)
        self._certain.clear()
        if self._latest and not leaving and now >= self._sent_at + MIN_GAP_S:
            leaving.append(self._latest.pop(next(iter(self._latest))))
        if leaving:
            self._sent_at = now
        return leaving

    def take_certain(self) -> list[Transient]:
        """Return what must leave before the job's final event."""
        leaving: list[Transient] = list(self._certain)
        self._certain.clear()
        return leaving

    def next_at(self) -> float | None:
        """Return when something may leave; None when nothing waits."""
        if self._certain:
            return self._sent_at
        return self._sent_at + MIN_GAP_S if self._latest else None

    def started(self, attempt: int) -> None:
        """Drop what earlier attempts reported: there is a newer one."""
        if attempt > self._attempt:
            self._attempt = attempt
            self._certain.clear()
            self._latest.clear()
