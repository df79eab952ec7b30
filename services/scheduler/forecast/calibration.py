"""Makes estimates honest: what was promised is compared with what came, and the next promise is corrected. Pure.

Kept are ratios of waits, observed over simulated, of the last jobs of a tier; a promise takes the quantile of that
ratio that had covered nine of ten. Others come and go while a job waits, so the past quantile alone drifts behind:
its level itself is moved a little after every outcome (adaptive conformal inference), which keeps the share of kept
promises near the goal whatever the load does. A promise counts as broken the moment it is, not when its job starts:
in a queue that grows the late ones would be heard of last.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field

GOAL = 0.9
TOLERANCE_S = 0.05  # waits are told with two digits
_WINDOW = 200  # ratios that are remembered
_SOFT_S = 1.0  # added to both waits, so that a ratio of short ones means something
_STEP = 0.02  # by which the level moves after an outcome, times how far it was off
_LEVELS = 0.5, 0.995
_PRIOR = (
    0.6,
    0.8,
    0.9,
    1.0,
    1.0,
    1.0,
    1.1,
    1.3,
    2.0,
    2.0,
)  # until there are outcomes: p50 as simulated, p90 twice that


@dataclass(frozen=True, slots=True)
class Promise:
    """Waits in seconds: as simulated, and the quantiles that were told for it."""

    simulated_s: float
    p50_s: float
    p90_s: float


@dataclass(slots=True)
class Calibration:
    """One tier's. `outcomes`: how many promises broke, and how many held."""

    outcomes: list[int] = field(default_factory=lambda: [0, 0])
    _order: deque[float] = field(default_factory=lambda: deque(_PRIOR))
    _sorted: list[float] = field(default_factory=lambda: sorted(_PRIOR))
    _prior_left: int = len(_PRIOR)
    _level: float = GOAL
    _kept: deque[bool] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def promise(self, simulated_s: float) -> Promise:
        """Return what to tell for a simulated wait."""
        p50 = self._scaled(simulated_s, 0.5)
        return Promise(simulated_s, p50, max(p50, self._scaled(simulated_s, self._level)))

    def observe(self, promise: Promise, waited_s: float) -> bool:
        """Take in how long the job waited; returns whether the p90 held."""
        kept = waited_s <= promise.p90_s + TOLERANCE_S
        self._count(kept=kept)
        self.learn(promise, waited_s)
        return kept

    def broke(self) -> None:
        """Take in that a job waits longer than its p90 already; `learn` from it when it starts."""
        self._count(kept=False)

    def learn(self, promise: Promise, waited_s: float) -> None:
        """Take in the ratio only: whether the promise held was told before."""
        self._remember((waited_s + _SOFT_S) / (promise.simulated_s + _SOFT_S))

    def coverage(self) -> float | None:
        """Return the share of the last promises that held; None before the first."""
        kept = tuple(self._kept)
        return sum(kept) / len(kept) if kept else None

    def _count(self, *, kept: bool) -> None:
        self._kept.append(kept)
        self.outcomes[kept] += 1
        self._level = min(max(self._level + _STEP * (GOAL - kept), _LEVELS[0]), _LEVELS[1])

    def _remember(self, ratio: float) -> None:
        self._order.append(ratio)
        insort(self._sorted, ratio)
        if self._prior_left or len(self._order) > _WINDOW:  # the first outcomes take the place of the prior
            self._prior_left = max(0, self._prior_left - 1)
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]

    def _scaled(self, simulated_s: float, level: float) -> float:
        index = min(len(self._sorted) - 1, int(level * len(self._sorted)))
        return max(0.0, (simulated_s + _SOFT_S) * self._sorted[index] - _SOFT_S)
