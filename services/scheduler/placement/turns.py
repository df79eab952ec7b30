"""When the models that jobs wait for have their turn: the order played forward as if all were in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from services.scheduler.order.ordering import Ordering

_LOOKED_AHEAD = 64  # jobs; what comes later comes last


def turns(order: Ordering, models: Collection[str], now: float) -> Mapping[str, float]:
    """Return the units that are served before the first job of each of these models that is not far away."""
    ahead, found = 0.0, dict[str, float]()
    order, wanted = order.fork(), set(models)
    for _ in range(_LOOKED_AHEAD):
        job = order.next(_in_memory, now) if wanted else None
        if job is None:
            break
        found.setdefault(job.model_version, ahead)
        wanted.discard(job.model_version)
        order.started(job.job_id, now)
        ahead += job.units
    return found


def _in_memory(_model_version: str) -> float:
    return 0.0
