"""Spares Python's collector the waiting jobs: they are no garbage, and walking over a million of them takes seconds.

The collector looks at everything again whenever that has grown by a quarter, and nothing else runs meanwhile. So, while
many jobs wait, what is alive is put aside once every so many jobs. A job that is put aside is freed all the same when
it goes: nothing refers to itself in it. What does and is caught by chance lies there until the queue is short again.
"""

from __future__ import annotations

import gc

from libs.ids import JobId
from services.scheduler.job import Job
from services.scheduler.order.ordering import Ordering

THRESHOLDS = (20_000, 20, 100)  # of Python's three generations; a walk over the oldest stops everything for long
MANY = 10_000  # waiting jobs, from which on it pays; so many must come between two times


def begin() -> None:
    """Have the collector come more rarely: with a thousand connections it walked over half a million objects for each
    few hundred jobs. What was made so far stays.
    """
    gc.set_threshold(*THRESHOLDS)
    gc.freeze()


class LongLived:
    """Is told what happens to the jobs that wait in an order."""

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._came = 0  # since the last time
        self._aside = False

    def queued(self, _job: Job) -> None:
        """A job waits (again)."""
        self._came += 1
        if self._came >= MANY and len(self._ordering) >= MANY:
            gc.collect()  # of what came since: that is soon done
            gc.freeze()
            self._came, self._aside = 0, True

    def started(self, job: Job, began_at: float) -> None:
        """Nothing is to be done."""

    def ended(self, job: Job) -> None:
        """Nothing is to be done."""

    def gone(self, _job_id: JobId) -> None:
        """A job is not open any more."""
        if self._aside and len(self._ordering) < MANY // 2:
            gc.unfreeze()
            gc.collect()
            gc.freeze()  # what the process began with, above all
            self._aside = False
