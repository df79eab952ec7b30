"""Calls made by so many at a time, how long each took, and things measured in turn beside each other."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
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

    @property
    def figures(self) -> tuple[float, float, float]:
        """What tables show: p50 and p99 in milliseconds, and calls per second."""
        return self.quantile_ms(0.5), self.quantile_ms(0.99), self.rate


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: so many rounds of so many calls."""

    rounds: int
    calls: int


async def side_by_side(calls: Mapping[str, Call], base: str, extent: Extent, in_flight: int) -> None:
    """Print the rows of one concurrency: medians over the rounds, taken in turn, and p50 against that of `base`."""
    samples: dict[str, list[Sample]] = {name: [] for name in calls}
    for _ in range(extent.rounds):
        for name, call in calls.items():
            samples[name].append(await measured(call, extent.calls, in_flight))
    medians = {
        name: [statistics.median(values) for values in zip(*(one.figures for one in taken), strict=True)]
        for name, taken in samples.items()
    }
    base_ms = medians[base][0]
    for name, (p50, p99, rate) in medians.items():
        print(f"| {name} | {in_flight} | {p50:.2f} | {p99:.2f} | {rate:.0f} | {p50 / base_ms:.2f} × |", flush=True)


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
