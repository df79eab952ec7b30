"""Calls made by so many at a time, and how long each took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One round: call times in seconds, sorted, and calls per second."""

    times: list[float]
    rate: float

    def quantile_ms(self, share: float) -> float:
        """Return the time that `share` of the calls stayed below."""
        return 1000 * self.times[min(len(self.times) - 1, int(share * len(self.times)))]


async def measured(call: Call, calls: int, in_flight: int) -> Sample:
    """Make calls with so many in flight."""
    times: list[float] = []
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return Sample(sorted(times), calls / (time.perf_counter() - began))
