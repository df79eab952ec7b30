"""`darkroom workers`, `drain`, `undrain`, `pin`, `unpin`, `pins`: what can draw, and what operators want of it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.clients.scheduler_admin import SchedulerAdminClient, WorkerView

_GIB = 2**30
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkerArgument = Annotated[str, typer.Argument(metavar="WORKER", help="Name, as `darkroom workers` tells it.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Id, alias or id@version.")]
AtOnce = Annotated[bool, typer.Option("--now", help="Take back what runs; it goes on elsewhere from its checkpoint.")]


def workers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the workers that are alive."""
    output.run(_workers(context.obj, as_json))


def drain(context: typer.Context, worker: WorkerArgument, now: AtOnce = False, as_json: AsJson = False) -> None:
    """Give a worker nothing new; what runs there finishes. It stays so, whatever restarts, until `undrain`."""
    output.run(_drain(context.obj, worker, now, as_json))


def undrain(context: typer.Context, worker: WorkerArgument, as_json: AsJson = False) -> None:
    """Give a drained worker jobs again."""
    output.run(_undrain(context.obj, worker, as_json))


def pin(context: typer.Context, model: ModelArgument, worker: WorkerArgument, as_json: AsJson = False) -> None:
    """Have a worker hold a model in memory."""
    output.run(_pin(context.obj, model, worker, True, as_json))


def unpin(context: typer.Context, model: ModelArgument, worker: WorkerArgument, as_json: AsJson = False) -> None:
    """Let a pinned model come and go as others."""
    output.run(_pin(context.obj, model, worker, False, as_json))


def pins(context: typer.Context, as_json: AsJson = False) -> None:
    """List the pinned models."""
    output.run(_pins(context.obj, as_json))


async def _workers(target: Target, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        found = await SchedulerAdminClient(channel).list_workers()
    if as_json:
        output.print_json([output.as_json(worker) for worker in found])
        return
    rows = (
        (
            w.id,
            state_text(w),
            w.device,
            w.address,
            f"{w.rows_in_use}/{w.rows}",
            gpu_text(w),
            models_text(w),
            w.running_job or "-",
        )
        for w in found
    )
    output.print_table(("worker", "state", "device", "address", "rows", "gpu", "models", "job"), rows)


async def _drain(target: Target, worker: str, now: bool, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        running = await SchedulerAdminClient(channel).drain_worker(worker, at_once=now)
    if as_json:
        output.print_json({"worker_id": worker, "draining": True, "running_jobs": running})
        return
    left = "nothing runs there" if not running else f"{'taken back' if now else 'still running'}: {' '.join(running)}"
    sys.stdout.write(f"{worker} gets no more jobs; {left}\n")


async def _undrain(target: Target, worker: str, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        await SchedulerAdminClient(channel).undrain_worker(worker)
    if as_json:
        output.print_json({"worker_id": worker, "draining": False})
        return
    sys.stdout.write(f"{worker} gets jobs again\n")


async def _pin(target: Target, model: str, worker: str, wanted: bool, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        client = SchedulerAdminClient(channel)
        pinned = await (client.pin_model(model, worker) if wanted else client.unpin_model(model, worker))
    if as_json:
        output.print_json({"worker_id": worker, "model_version": pinned, "pinned": wanted})
        return
    sys.stdout.write(f"{worker} {'holds' if wanted else 'may let go of'} {pinned}\n")


async def _pins(target: Target, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        found = await SchedulerAdminClient(channel).pins()
    if as_json:
        output.print_json([output.as_json(one) for one in found])
        return
    output.print_table(("worker", "model"), ((one.worker_id, one.model_version) for one in found))


def state_text(worker: WorkerView) -> str:
    """Return whether it takes jobs, and what keeps it from them."""
    kept = worker.quarantined_until
    parts = (
        "draining" if worker.draining else None,
        f"quarantined until {output.clock_text(kept)}" if kept is not None else None,
    )
    return ", ".join(part for part in parts if part) or "ready"


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
    notes = dict(places)
    for model in worker.pins:
        notes[model] = f"{notes[model]}, pinned" if model in notes else "pinned"
    return " ".join(f"{model} ({notes[model]})" if model in notes else model for model in worker.models)
