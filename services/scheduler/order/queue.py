"""The waiting jobs of one tenant and model: by priority, then by arrival.

Jobs that were taken out stay in the heaps until they come up or are too many; `alive` tells them apart. After every
change the first of each heap is alive, so that looking changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from services.scheduler.order.waiting import Entry

Alive = Callable[[Entry], bool]


class Queue:
    """Jobs of one tenant and model; `owner` is whoever may change it, others copy it first."""

    __slots__ = ("count", "key", "owner", "rows", "units")

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.rows: dict[int, list[Entry]] = {}  # heaps by −priority
        self.count = 0
        self.units = 0.0
        self.key = 0.0  # the time under which its tenant stands in the model's line

    def copy(self, owner: object) -> Queue:
        """Return one that goes its own way."""
        twin = Queue(owner)
        twin.rows = {level: row.copy() for level, row in self.rows.items()}
        twin.count, twin.units, twin.key = self.count, self.units, self.key
        return twin

    def add(self, entry: Entry) -> None:
        """Put a job in."""
        heapq.heappush(self.rows.setdefault(-entry[2].priority, []), entry)
        self.count += 1
        self.units += entry[2].units

    def removed(self, entry: Entry, alive: Alive) -> None:
        """Forget a job that is alive no more."""
        self.count -= 1
        self.units = self.units - entry[2].units if self.count else 0.0
        level = -entry[2].priority
        row = self.rows[level]
        while row and not alive(row[0]):
            heapq.heappop(row)
        if not row:
            del self.rows[level]
        if sum(map(len, self.rows.values())) > 2 * self.count + 32:
            self._clear_up(alive)

    def first(self) -> Entry:
        """Return the best job; there must be one."""
        return self.rows[min(self.rows)][0] if len(self.rows) > 1 else next(iter(self.rows.values()))[0]

    def oldest(self) -> Entry:
        """Return the job that waits longest; there must be one."""
        return min(row[0] for row in self.rows.values())

    def _clear_up(self, alive: Alive) -> None:
        kept = {level: [entry for entry in row if alive(entry)] for level, row in self.rows.items()}
        self.rows = {level: row for level, row in kept.items() if row}
        for row in self.rows.values():
            heapq.heapify(row)
