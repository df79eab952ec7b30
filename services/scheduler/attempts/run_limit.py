"""How long an attempt may draw, and how long it has. Pure.

The limit is 20 times the job's estimate and at least a minute, unless the operator set one for its model or tier. Time
in which the job was parked for another does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libs import settings

FACTOR, LEAST_S = 20.0, 60.0


@dataclass(frozen=True, slots=True)
class RunLimits:
    """`seconds` by `model/tier`, `model` or tier: the first of these that is there holds."""

    seconds: Mapping[str, float] = field(default_factory=dict)

    def limit_s(self, model: str, tier: str, estimated_units: float) -> float:
        """Return the most seconds of drawing for a job of `model` (its id); a unit is a millisecond."""
        for name in (f"{model}/{tier}", model, tier):
            if name in self.seconds:
                return self.seconds[name]
        return max(LEAST_S, FACTOR * estimated_units / 1000.0)


def parse(entries: Sequence[str]) -> RunLimits:
    """Return the limits of `name=seconds` entries; raises ValueError with what is wrong."""
    return RunLimits(settings.named_numbers(entries, "MODEL=SECONDS, TIER=SECONDS or MODEL/TIER=SECONDS"))


class RunClock:
    """The time that one attempt has drawn. Moments are Unix seconds."""

    def __init__(self) -> None:
        self._drawn_s = 0.0
        self._since: float | None = None
        self.begun_at: float | None = None  # when it drew its first step

    @property
    def runs(self) -> bool:
        """Whether its time passes."""
        return self._since is not None

    def begin(self, now: float) -> None:
        """It drew a step; only the first one counts."""
        if self.begun_at is None:
            self.begun_at = self._since = now

    def pause(self, now: float) -> None:
        """It is off the device."""
        self._drawn_s, self._since = self.drawn_s(now), None

    def go_on(self, now: float) -> None:
        """It is on the device again."""
        if self.begun_at is not None and self._since is None:
            self._since = now

    def drawn_s(self, now: float) -> float:
        """Return for how long it has drawn."""
        return self._drawn_s + (max(0.0, now - self._since) if self._since is not None else 0.0)
