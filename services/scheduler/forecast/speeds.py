"""What a unit really takes on the wall, from jobs that ended. Pure.

A unit is a millisecond of the reference device by the cost table. On the wall a job takes longer or shorter: other
devices, other jobs beside it in the same forward, an estimate that nine of ten stay below. Kept as averages that forget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from libs.generation.attempt import StageDone

PRIOR_S_PER_UNIT = 0.001
_WEIGHT = 0.2  # of the newest observation: half of the average is from the last three
_BOUNDS = 1e-5, 1.0  # seconds a unit; what lies outside was a clock that jumped


@dataclass(slots=True)
class Speeds:
    """Seconds per unit: by worker and model, by model and in all."""

    _wall: dict[tuple[str, str], float] = field(default_factory=dict)  # by worker (empty: any) and model (empty: any)

    def learn(self, model: str, worker: str, units: float, stages: Iterable[StageDone]) -> None:
        """Take in a job that succeeded in one attempt: its estimate and the stages of its attempt."""
        spans = [stage for stage in stages if stage.name != "queue"]
        if units <= 0.0 or not spans:
            return
        load_s = sum(max(0.0, stage.end_s - stage.start_s) for stage in spans if stage.name == "load")
        took_s = max(stage.end_s for stage in spans) - min(stage.start_s for stage in spans) - load_s
        for key in ((worker, model), ("", model), ("", "")):
            self._wall[key] = _average(self._wall.get(key), _bounded(took_s / units))

    def seconds_per_unit(self, worker: str, model: str) -> float:
        """Return the seconds on the wall that a unit takes there, from the nearest that was observed."""
        for key in ((worker, model), ("", model), ("", "")):
            if key in self._wall:
                return self._wall[key]
        return PRIOR_S_PER_UNIT


def _average(before: float | None, observed: float) -> float:
    return observed if before is None else before + _WEIGHT * (observed - before)


def _bounded(value: float) -> float:
    return min(max(value, _BOUNDS[0]), _BOUNDS[1])
