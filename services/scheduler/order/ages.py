"""How long the jobs of a tier have waited, counted by the second: right to a second whatever their number."""

from __future__ import annotations

import heapq


class Ages:
    """When the waiting jobs were queued. Other threads may look."""

    __slots__ = ("_firsts", "_order", "_seconds")

    def __init__(self) -> None:
        self._seconds: dict[int, int] = {}  # how many were queued in that second
        self._firsts: dict[int, float] = {}  # the earliest moment in it
        self._order: list[int] = []  # a heap of them, some over already

    def copy(self) -> Ages:
        """Return one that goes its own way."""
        twin = Ages()
        twin._seconds, twin._firsts, twin._order = self._seconds.copy(), self._firsts.copy(), self._order.copy()
        return twin

    def add(self, queued_at: float) -> None:
        """Count a job."""
        second = int(queued_at)
        if second not in self._seconds:
            heapq.heappush(self._order, second)
        self._seconds[second] = self._seconds.get(second, 0) + 1
        self._firsts[second] = min(queued_at, self._firsts.get(second, queued_at))

    def remove(self, queued_at: float) -> None:
        """Count it no longer."""
        second = int(queued_at)
        self._seconds[second] -= 1
        if not self._seconds[second]:
            del self._seconds[second], self._firsts[second]

    def any_before(self, moment: float) -> bool:
        """Return whether any may have been queued before a moment; not for other threads."""
        while self._order and self._order[0] not in self._seconds:
            heapq.heappop(self._order)
        return bool(self._order) and self._firsts[self._order[0]] < moment

    def oldest(self) -> float | None:
        """Return since when the oldest waits."""
        firsts = tuple(self._firsts.values())  # a copy: the metrics thread asks, too
        return min(firsts, default=None)

    def before(self, moment: float) -> int:
        """Return how many were queued in seconds that were over by `moment`."""
        seconds = tuple(self._seconds.items())
        return sum(count for second, count in seconds if second + 1 <= moment)
