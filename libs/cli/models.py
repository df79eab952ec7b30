"""`darkroom models`: what can be drawn with, and which of it is in memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum
from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.clients.scheduler_admin import ModelMove, SchedulerAdminClient

app = typer.Typer(help="List models; bring them into memory or let them go (operators only).")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str, typer.Argument(help="Id, alias or id@version.")]
OneWorker = Annotated[str, typer.Option("--worker", help="This worker only; else all that can run the model.")]


class Tier(Enum):
    """How near a model is brought."""

    VRAM = "vram"  # the device's memory
    RAM = "ram"  # the host's memory, a copy away


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models, the unusable ones with their reason."""
    if context.invoked_subcommand is None:
        output.run(_list(context.obj, as_json))


@app.command("list")
def list_models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models, the unusable ones with their reason."""
    output.run(_list(context.obj, as_json))


@app.command()
def warm(
    context: typer.Context,
    model: Model,
    worker: OneWorker = "",
    tier: Annotated[Tier, typer.Option(help="How near.")] = Tier.VRAM,
    as_json: AsJson = False,
) -> None:
    """Begin to bring a model into memory; what draws is not held up."""
    output.run(_warm(context.obj, model, worker, tier, as_json))


@app.command()
def evict(context: typer.Context, model: Model, worker: OneWorker = "", as_json: AsJson = False) -> None:
    """Let a model's weights go from memory; those of a model that draws stay."""
    output.run(_evict(context.obj, model, worker, as_json))


async def _list(target: Target, as_json: bool) -> None:
    async with target.public() as client:
        found = await client.models()
    if as_json:
        output.print_json([output.as_json(model) for model in found])
        return
    rows = (
        (m.id, m.version, m.pipeline, m.residency, m.workers, "yes" if m.usable else f"no: {m.unusable_reason}")
        for m in found
    )
    output.print_table(("model", "version", "pipeline", "residency", "workers", "usable"), rows)


async def _warm(target: Target, model: str, worker: str, tier: Tier, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        moves = await SchedulerAdminClient(channel).warm_model(model, worker, tier.value)
    _show(moves, f"brings {{}} into {tier.value}", as_json)


async def _evict(target: Target, model: str, worker: str, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        moves = await SchedulerAdminClient(channel).evict_model(model, worker)
    _show(moves, "has let {} go", as_json)


def _show(moves: Sequence[ModelMove], done: str, as_json: bool) -> None:
    """Print a line a worker; exit with 1 when one of them did not."""
    if as_json:
        output.print_json([output.as_json(move) for move in moves])
    for move in moves if not as_json else ():
        told = done.format(move.pinned) if move.accepted else f"does not: {move.message}"
        sys.stdout.write(f"{move.worker_id} {told}\n")
    if not all(move.accepted for move in moves):
        raise typer.Exit(1)
