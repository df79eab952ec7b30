"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

_TURNS = 50  # of the event loop: enough for a woken task to reach its next sleep when no real I/O is in between


class ManualClock:
    """Keeps the promises of `libs.clock.Clock`; `now` and `monotonic` move together, but for `put`."""

    def __init__(self, now_s: float = 1_700_000_000.0) -> None:
        self._start_s = now_s
        self._passed_s = 0.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Return Unix seconds."""
        return self._start_s + self._passed_s

    def monotonic(self) -> float:
        """Return seconds since the clock was made."""
        return self._passed_s

    def put(self, seconds: float) -> None:
        """Put the clock forward, or back by less than zero; no time passes."""
        self._start_s += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until the test moved the clock that far."""
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed_s + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its own moment, and let the tasks run up to their next wait."""
        until_s = self._passed_s + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            moment_s, _, woken = heapq.heappop(self._sleepers)
            if woken.done():  # its task was cancelled
                continue
            self._passed_s = moment_s
            woken.set_result(None)
            await self.settle()
        self._passed_s = until_s

    async def settle(self) -> None:
        """Let every task run up to its next wait; time stands still."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
