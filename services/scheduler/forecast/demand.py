"""How much work waits and who works, per model: from it follows how many workers are needed. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from libs.generation.model import means
from libs.ids import WorkerId


@dataclass(frozen=True, slots=True)
class ModelDemand:
    """What waits for a model (`gpu_s`: estimated seconds of a device) and how many workers draw with it."""

    jobs: int = 0
    gpu_s: float = 0.0
    running: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """Demand by pinned model version. `running` workers in all: one that draws with two models counts once."""

    models: Mapping[str, ModelDemand]
    running: int = 0

    def of(self, model: str) -> ModelDemand:
        """Return the demand of a model, by pinned version or by id for all its versions; empty: of all together."""
        wanted = [demand for pinned, demand in self.models.items() if not model or means(model, pinned)]
        running = sum(demand.running for demand in wanted) if model else self.running
        return ModelDemand(sum(demand.jobs for demand in wanted), sum(demand.gpu_s for demand in wanted), running)


def needed_workers(demand: ModelDemand, target_drain_s: float) -> int:
    """Return how many workers draw what waits within `target_drain_s`, beside those that are at work.

    Counted in seconds of work and not in jobs: jobs differ in cost fifty times over.
    """
    return math.ceil(demand.gpu_s / target_drain_s + demand.running - 1e-9)


def measure(
    waits: Mapping[str, tuple[int, float]],
    runs: Collection[tuple[str, WorkerId]],
    seconds_per_unit: Callable[[str], float],
) -> Demand:
    """Return the demand of what waits (jobs and units by model) and of what runs (models with their workers)."""
    drawing = Counter(model for model, _ in set(runs))
    models = {}
    for model in {*waits, *drawing}:
        jobs, units = waits.get(model, (0, 0.0))
        models[model] = ModelDemand(jobs, units * seconds_per_unit(model), drawing[model])
    return Demand(models, len({worker for _, worker in runs}))
