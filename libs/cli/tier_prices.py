"""Whether tiers grant what they allow at the prices as measured: the file knows only those of before the first picture."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from libs.cli.target import Target, TargetUnknown
from libs.clients.scheduler import Catalog, SchedulerClient
from libs.errors import DarkroomError
from libs.generation.largest import Largest, largest_of
from libs.rpc import deadlines

_GRANTS = ("units_burst", "daily_units")

Tiers = Mapping[str, Mapping[str, Any]]


async def too_dear(target: Target, tiers: Tiers) -> Sequence[str] | None:
    """Return what the fields of tiers allow and never grant, a line each; None when prices cannot be asked for."""
    try:
        async with (
            asyncio.timeout(deadlines.ADMIN_S),
            target.admin("scheduler") as channel,
            aclosing(SchedulerClient(channel).watch_catalog()) as catalogs,
        ):
            catalog = await anext(catalogs)
    except (DarkroomError, TargetUnknown, TimeoutError):
        return None
    return list(compared(tiers, catalog))


def compared(tiers: Tiers, catalog: Catalog) -> Iterator[str]:
    """Yield what tiers allow of the models of a catalog and never grant at its prices."""
    models = [model for model in catalog.models if model.usable and not model.draws_video]
    for tier, fields in tiers.items():
        most = [int(float(fields[name])) if name in fields else None for name in ("max_pixels", "max_steps")]
        granted = {name: float(fields[name]) for name in _GRANTS if name in fields}
        for largest in (largest_of(model, catalog.costs, *most) for model in models):
            short = (name for name, units in granted.items() if units < largest.units)
            yield from (_told(tier, largest, name, granted[name]) for name in short)


def _told(tier: str, largest: Largest, name: str, units: float) -> str:
    return f"{tier}: {largest} costs {largest.units:_.0f} units, and {name} is {units:_.0f}"
