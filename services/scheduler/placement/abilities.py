"""What a fleet can draw, counted once for each of its states: asked for every job, it must not cost a look at each worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from libs.fleet.record import WorkerRecord


class Abilities:
    """Of one state of the fleet."""

    def __init__(self, records: Iterable[WorkerRecord] = ()) -> None:
        self._rows: Counter[str] = Counter()
        self._staying: set[str] = set()
        self._builds: dict[str, set[str]] = {}
        alike: Counter[tuple[int, bool, str]] = Counter()
        models: dict[int, tuple[str, ...]] = {}  # by identity: records share those that are equal, and hashing is slow
        for record in records:
            models[id(record.models)] = record.models
            alike[id(record.models), record.draining, record.engine_build] += record.rows
        for (which, draining, build), rows in alike.items():  # workers differ in few ways
            self._count(models[which], draining=draining, build=build, rows=rows)

    def rows(self, model_version: str) -> int:
        """Return how many rows the workers have together that can run a model."""
        return self._rows[model_version]

    def feasible(self, model_version: str) -> bool:
        """Return whether a worker that stays can run a model."""
        return model_version in self._staying

    def builds(self, model_version: str) -> Collection[str]:
        """Return the engine builds of the workers that can run a model; an empty one is of a worker that does not say."""
        return self._builds.get(model_version, ())

    def _count(self, models: tuple[str, ...], *, draining: bool, build: str, rows: int) -> None:
        for model in models:
            self._rows[model] += rows
            self._builds.setdefault(model, set()).add(build)
        if not draining:
            self._staying.update(models)
