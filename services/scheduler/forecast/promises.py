"""What waiting jobs were told, and how it turned out. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.ids import JobId
from services.scheduler.forecast.calibration import TOLERANCE_S, Calibration, Promise

MOST_OPEN = 2000  # of the promises that are followed: a sample is enough to learn from
_AT_ONCE_S = 1.0


@dataclass(slots=True)
class _Open:
    tier: str
    promise: Promise
    since: float
    broken: bool = False


@dataclass(slots=True)
class Promises:
    """Calibrations by tier, and the open promises by job. Times in Unix seconds."""

    _tiers: dict[str, Calibration] = field(default_factory=dict)
    _open: dict[JobId, _Open] = field(default_factory=dict)
    _ends: list[tuple[float, JobId]] = field(default_factory=list)  # heap of when each would be broken

    def promise(self, tier: str, simulated_s: float, now: float) -> Promise:
        """Return what to tell for a simulated wait."""
        self._look(now)
        return self._tiers.setdefault(tier, Calibration()).promise(simulated_s)

    def follow(self, job_id: JobId, tier: str, promise: Promise, now: float) -> None:
        """Remember what a job was told first; what it is told later is no promise."""
        if job_id in self._open or len(self._ends) >= MOST_OPEN:
            return
        self._open[job_id] = _Open(tier, promise, now)
        heapq.heappush(self._ends, (now + max(_AT_ONCE_S, promise.p90_s + TOLERANCE_S), job_id))

    def started(self, job_id: JobId, now: float) -> None:
        """Learn from a job that starts. One that was to start at once and did says nothing about waiting."""
        self._look(now)
        told = self._open.pop(job_id, None)
        if told is None:
            return
        waited_s = max(0.0, now - told.since)
        if told.broken:
            self._tiers[told.tier].learn(told.promise, waited_s)
        elif told.promise.simulated_s > 0.0 or waited_s > _AT_ONCE_S:
            self._tiers[told.tier].observe(told.promise, waited_s)

    def gone(self, job_id: JobId) -> None:
        """Forget a job that ended without starting."""
        self._open.pop(job_id, None)

    def coverage(self, tier: str) -> float | None:
        """Return the share of the last promises of a tier whose p90 held; None before the first outcome."""
        calibration = self._tiers.get(tier)
        return calibration.coverage() if calibration else None

    def outcomes(self) -> Mapping[str, tuple[int, int]]:
        """Return by tier how many promises broke and how many held, since the start."""
        return {tier: (each.outcomes[0], each.outcomes[1]) for tier, each in tuple(self._tiers.items())}

    def _look(self, now: float) -> None:
        """Count the promises that were broken by now."""
        while self._ends and self._ends[0][0] < now:
            _, job_id = heapq.heappop(self._ends)
            told = self._open.get(job_id)
            if told is not None and not told.broken:
                told.broken = True
                self._tiers[told.tier].broke()
