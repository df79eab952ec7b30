"""`darkroom workers`: what can draw."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.clients.scheduler_admin import SchedulerAdminClient, WorkerView

_GIB = 2**30
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def workers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the workers that are alive."""
    output.run(_workers(context.obj, as_json))


async def _workers(target: Target, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        found = await SchedulerAdminClient(channel).list_workers()
    if as_json:
        output.print_json([output.as_json(worker) for worker in found])
        return
    rows = (
        (w.id, w.device, w.address, f"{w.rows_in_use}/{w.rows}", gpu_text(w), models_text(w), w.running_job or "-")
        for w in found
    )
    output.print_table(("worker", "device", "address", "rows", "gpu", "models", "job"), rows)


def gpu_text(worker: WorkerView) -> str:
    """Return a GPU's readings in one line, what holds it down at the end; `-` for a CPU."""
    used, total = worker.memory_used_bytes, worker.memory_bytes
    parts = (
        None if worker.utilisation_ratio is None else f"{worker.utilisation_ratio:.0%}",
        None if used is None else f"{used / _GIB:.1f}/{total / _GIB:.0f} GiB",
        None if worker.temperature_celsius is None else f"{worker.temperature_celsius:.0f} °C",
        None if worker.power_watts is None else f"{worker.power_watts:.0f} W",
        f"slowed by {', '.join(worker.throttle)}" if worker.throttle else None,
    )
    return " ".join(part for part in parts if part) or "-"


def models_text(worker: WorkerView) -> str:
    """Return its models, those in memory with their place."""
    places = worker.residency
    return " ".join(f"{model} ({places[model]})" if model in places else model for model in worker.models)
