"""How often each model is asked for, counted so that it predicts.

Counts fade with every request by 1/100: between "used last" (which forgets a favourite over one burst of something
else) and "used most" (which never forgets what was popular last month). They fade by requests, not by the clock, so
a quiet night changes nobody's rank. Ten requests in a row are one reason to keep a model, not ten: a request counts
by 1 − exp(−requests since the last one for its model / 15). Both numbers were chosen on traces other than those of
tests/bench/residency.py; between a half and twice of each, loads change by about one in a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from services.modelserver.engine.eviction import Outlook

_MEMORY = 100.0  # requests after which a count has faded to 1/e
_ONE_REASON = 15.0  # requests between two of a model that make the second tell about as much as the first
_SHORTEST_GAP_S = 1e-3


class Arrivals:
    """Counts requests by model. `now_s` of any one clock."""

    def __init__(self) -> None:
        self._requests = 0
        self._counts: dict[str, float] = {}  # as they were at that model's last request
        self._last: dict[str, int] = {}  # number of that request
        self._last_s: float | None = None
        self._gap_s = 0.0  # between requests for any model, smoothed as the counts are

    def note(self, pinned: str, now_s: float) -> None:
        """Count a request."""
        self._requests += 1
        since = self._requests - self._last[pinned] if pinned in self._last else math.inf
        self._counts[pinned] = self._count(pinned) + 1.0 - math.exp(-since / _ONE_REASON)
        self._last[pinned] = self._requests
        if self._last_s is not None:
            weight = max(1.0 / _MEMORY, 1.0 / (self._requests - 1))  # the first gap is taken whole
            self._gap_s += weight * (now_s - self._last_s - self._gap_s)
        self._last_s = now_s

    def expected_s(self) -> Mapping[str, float]:
        """Return the mean seconds between requests for each model that was ever asked for."""
        counts = {pinned: self._count(pinned) for pinned in self._counts}
        total = sum(counts.values())
        gap_s = max(self._gap_s, _SHORTEST_GAP_S)  # requests of one moment still differ in their counts
        return {pinned: gap_s * total / count if count > 0 else math.inf for pinned, count in counts.items()}

    def _count(self, pinned: str) -> float:
        if pinned not in self._counts:
            return 0.0
        return self._counts[pinned] * math.exp(-(self._requests - self._last[pinned]) / _MEMORY)


class Forecast:
    """Arrivals and the scheduler's hints together; all times of one monotonic clock."""

    def __init__(self) -> None:
        self._arrivals = Arrivals()
        self._hints: Mapping[str, float] = {}
        self._hints_end_s = -math.inf

    def note(self, pinned: str, now_s: float) -> None:
        """Count a request."""
        self._arrivals.note(pinned, now_s)

    def hint(self, next_use_s: Mapping[str, float], end_s: float) -> None:
        """Take hints in place of those before; models without one are not used before `end_s`."""
        self._hints, self._hints_end_s = dict(next_use_s), end_s

    def outlook(self, now_s: float, waiting: Collection[str], leaving: Collection[str]) -> Outlook:
        """Return what is known now."""
        return Outlook(now_s, waiting, self._hints, self._hints_end_s, self._arrivals.expected_s(), leaving)
