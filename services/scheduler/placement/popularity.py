"""How often each model is asked for, and how likely it is to be asked for soon. Pure.

Three counts of arrivals by model: one that fades in minutes, one that fades in hours, and one by hour of the day that
fades in weeks. The rate expected now is the mean of the fast one and of the slow one as this hour usually has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

FAST_S, SLOW_S, HOURS_S = 300.0, 6 * 3600.0, 14 * 24 * 3600.0  # after which a count has faded to 1/e
DAY_S = 86_400.0
_YOUNG_S = 60.0  # a history is taken to be at least so long
_MOST_OF_HOUR = 4.0  # an hour counts for at most so many times the mean
_PRIOR = 5.0  # arrivals in each hour that are assumed beside those counted


@dataclass(slots=True)
class _Fading:
    count: float = 0.0
    at: float = 0.0

    def add(self, now: float, life_s: float) -> None:
        self.count, self.at = self.value(now, life_s) + 1.0, max(now, self.at)

    def value(self, now: float, life_s: float) -> float:
        return self.count * math.exp(-max(0.0, now - self.at) / life_s)


@dataclass(slots=True)
class _History:
    fast: _Fading = field(default_factory=_Fading)
    slow: _Fading = field(default_factory=_Fading)
    hours: list[_Fading] = field(default_factory=lambda: [_Fading() for _ in range(24)])


class Popularity:
    """New jobs by model version. Moments are Unix seconds; hours are those of UTC."""

    def __init__(self) -> None:
        self._histories: dict[str, _History] = {}
        self._since: float | None = None

    def note(self, model_version: str, now: float) -> None:
        """Count a new job."""
        self._since = now if self._since is None else min(self._since, now)
        history = self._histories.get(model_version)
        if history is None:
            history = self._histories[model_version] = _History()
        history.fast.add(now, FAST_S)
        history.slow.add(now, SLOW_S)
        history.hours[_hour(now)].add(now, HOURS_S)

    def models(self) -> list[str]:
        """Return the models that were ever asked for."""
        return list(self._histories)

    def rate(self, model_version: str, now: float) -> float:
        """Return the arrivals a second that are expected now."""
        history = self._histories.get(model_version)
        if history is None or self._since is None:
            return 0.0
        age_s = max(_YOUNG_S, now - self._since)
        fast = history.fast.value(now, FAST_S) / _seen_s(age_s, FAST_S)
        slow = history.slow.value(now, SLOW_S) / _seen_s(age_s, SLOW_S)
        known_hours = _of_hour(history, now) if age_s >= DAY_S else 1.0  # a day without its end says nothing of hours
        return 0.5 * fast + 0.5 * slow * known_hours

    def likelihood(self, model_version: str, now: float, within_s: float) -> float:
        """Return how likely it is that somebody asks for the model within so many seconds, 0 to 1."""
        return 1.0 - math.exp(-self.rate(model_version, now) * within_s)


def _of_hour(history: _History, now: float) -> float:
    counts = [hour.value(now, HOURS_S) + _PRIOR for hour in history.hours]
    return min(_MOST_OF_HOUR, counts[_hour(now)] * len(counts) / sum(counts))


def _seen_s(age_s: float, life_s: float) -> float:
    """Return how many seconds a fading count stands for after `age_s`."""
    return life_s * (1.0 - math.exp(-age_s / life_s))


def _hour(now: float) -> int:
    return int(now // 3600) % 24
