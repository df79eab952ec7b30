"""When the workers with parked jobs are looked at, and when all that run. Pure.

A look asks the order once for each of them, and is wanted whenever a row may be free. A few are looked at each time.
Many are looked at in rounds: one goes on where it found something, and after it there is a pause in proportion, so
that looks take a tenth of the time at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from libs.ids import WorkerId
from services.scheduler.placement.preemption import Parked

MANY, PAUSE_S_PER_WORKER = 32, 0.0004  # of so many workers a look takes a millisecond
MANY_RUN, PAUSE_S_PER_ATTEMPT = 100, 0.0001  # of so many attempts a look takes milliseconds

ByWorker = Mapping[WorkerId, list[Parked]]


class Rounds:
    """The round that is under way, if any."""

    def __init__(self) -> None:
        self._left: list[list[Parked]] = []
        self._many, self._pause_s = False, 0.0
        self._next, self._again = 0.0, False

    def each(self, parked: Callable[[], ByWorker], now: float) -> Iterator[list[Parked]]:
        """Give the parked jobs of one worker after the other, as they were when the round began; none in a pause."""
        self._again = now < self._next or (self._many and bool(self._left))  # what changes meanwhile is seen later
        if now < self._next:
            return
        if not self._many or not self._left:
            self._left = list(parked().values())
            self._many = len(self._left) >= MANY
            self._pause_s = len(self._left) * PAUSE_S_PER_WORKER if self._many else 0.0
        while self._left:
            yield self._left.pop()
        self._next = now + self._pause_s

    def next_moment(self) -> float | None:
        """Return when a look is made that was put off."""
        return self._next if self._again else None


class Looks:
    """Looks at all that run."""

    def __init__(self) -> None:
        self._next, self._again = 0.0, False

    def wait(self, running: int, now: float) -> bool:
        """Return whether a look would cost too much, so soon after the last one; then it is made later."""
        self._again = now < self._next
        if not self._again and running >= MANY_RUN:
            self._next = now + running * PAUSE_S_PER_ATTEMPT
        return self._again

    def next_moment(self) -> float | None:
        """Return when a look is made that was put off."""
        return self._next if self._again else None
