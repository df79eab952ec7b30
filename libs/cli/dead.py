"""`darkroom dead`: jobs whose attempts were used up."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from libs.cli import output
from libs.cli.target import Target
from libs.clients.scheduler_admin import SchedulerAdminClient

app = typer.Typer(no_args_is_help=True, help="Look after jobs whose attempts were used up (operators only).")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobsArgument = Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids.")]


@app.command("list")
def list_dead(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most to list.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List them, the latest first."""
    output.run(_list(context.obj, limit, as_json))


@app.command()
def requeue(context: typer.Context, job_ids: JobsArgument, as_json: AsJson = False) -> None:
    """Queue jobs again, under their own ids and with all their attempts before them."""
    output.run(_requeue(context.obj, job_ids, as_json))


@app.command()
def drop(context: typer.Context, job_ids: JobsArgument, as_json: AsJson = False) -> None:
    """Take jobs off the list; their owners still see that they failed."""
    output.run(_drop(context.obj, job_ids, as_json))


async def _list(target: Target, limit: int, as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        found = await SchedulerAdminClient(channel).dead_letters(limit)
    if as_json:
        output.print_json([output.as_json(letter) for letter in found])
        return
    rows = (
        (
            d.job_id,
            output.clock_text(d.dead_at),
            d.tenant_id,
            d.model_version,
            d.attempts,
            d.worker,
            d.reason,
            d.message,
        )
        for d in found
    )
    output.print_table(("job", "died", "tenant", "model", "attempts", "worker", "reason", "message"), rows)


async def _requeue(target: Target, job_ids: list[str], as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        await _each(job_ids, SchedulerAdminClient(channel).requeue_dead_letter, "waits again", as_json)


async def _drop(target: Target, job_ids: list[str], as_json: bool) -> None:
    async with target.admin("scheduler") as channel:
        await _each(job_ids, SchedulerAdminClient(channel).drop_dead_letter, "is dropped", as_json)


async def _each(job_ids: list[str], act: Callable[[str], Awaitable[None]], done: str, as_json: bool) -> None:
    """Act on one job after the other and tell each at once; with JSON, all that were done."""
    acted: list[str] = []
    try:
        for job_id in job_ids:
            await act(job_id)
            acted.append(job_id)
            if not as_json:
                sys.stdout.write(f"{job_id} {done}\n")
    finally:  # also when the next one is refused
        if as_json:
            output.print_json([{"job_id": job_id, "done": done} for job_id in acted])
