"""The forecast as metrics; docs/metrics.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Observation

from libs.telemetry import metrics
from services.scheduler.forecast.demand import Demand, ModelDemand, needed_workers
from services.scheduler.order.ordering import TIERS


def observe(
    demand: Callable[[], Demand], outcomes: Callable[[], Mapping[str, tuple[int, int]]], target_drain_s: float
) -> None:
    """Show how many workers are needed, and how many promises held. Read on the exporter's thread."""
    meter = metrics.meter()

    def needed(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(needed_workers(found, target_drain_s), labels) for found, labels in _series(demand())]

    def queued(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(found.gpu_s, labels) for found, labels in _series(demand())]

    def held(_: CallbackOptions) -> Iterable[Observation]:
        found = outcomes()
        for tier in TIERS:
            broken, kept = found.get(tier, (0, 0))
            yield Observation(broken, {"tier": tier, "kept": "no"})
            yield Observation(kept, {"tier": tier, "kept": "yes"})

    gauge = meter.create_observable_gauge
    gauge("darkroom_needed_workers", [needed], description="Workers that draw in time what waits, and that are busy")
    gauge("darkroom_queued_gpu_seconds", [queued], description="Seconds of a device that the waiting jobs take")
    meter.create_observable_counter(
        "darkroom_eta_promises_total",
        [held],
        description="Waits told at acceptance, by whether the 90th percentile held",
    )


def _series(demand: Demand) -> list[tuple[ModelDemand, dict[str, str]]]:
    """Return each model's demand, and that of all together without a label."""
    return [(demand.of(""), {}), *((found, {"model": pinned}) for pinned, found in demand.models.items())]
