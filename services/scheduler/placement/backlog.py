"""How much waits, by model version: what placing and preloading look at. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from libs.ids import JobId


@dataclass(slots=True)
class _Sum:
    jobs: int = 0
    units: float = 0.0


class Backlog:
    """Waiting jobs, also those that wait for their next try."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, tuple[str, float]] = {}
        self._sums: dict[str, _Sum] = {}

    def add(self, job_id: JobId, model_version: str, units: float) -> None:
        """A job waits; one that did already stays as it was."""
        if job_id in self._jobs:
            return
        self._jobs[job_id] = model_version, units
        total = self._sums.setdefault(model_version, _Sum())
        total.jobs, total.units = total.jobs + 1, total.units + units

    def remove(self, job_id: JobId) -> None:
        """A job waits no longer; unknown ones are ignored."""
        model_version, units = self._jobs.pop(job_id, ("", 0.0))
        total = self._sums.get(model_version)
        if total is None:
            return
        total.jobs, total.units = total.jobs - 1, total.units - units
        if not total.jobs:
            del self._sums[model_version]

    def models(self) -> Collection[str]:
        """Return the model versions that jobs wait for."""
        return tuple(self._sums)

    def jobs(self, model_version: str) -> int:
        """Return how many jobs wait for a model."""
        total = self._sums.get(model_version)  # one look: the metrics thread asks, too
        return total.jobs if total else 0

    def units(self, model_version: str) -> float:
        """Return the units of the jobs that wait for a model."""
        total = self._sums.get(model_version)
        return total.units if total else 0.0
