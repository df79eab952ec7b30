"""`darkroom jobs`: list, show, cancel, watch, delete."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from darkroom.v1 import job_pb2
from libs.cli import output
from libs.cli.generate import follow
from libs.cli.target import Target

app = typer.Typer(no_args_is_help=True, help="Read and end jobs.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Job id.")]


@app.command("list")
def list_jobs(
    context: typer.Context,
    state: Annotated[str, typer.Option(help="Only jobs in this state, like QUEUED.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most jobs to list.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    states = job_pb2.Job.State.keys()[1:]
    if state and state.upper() not in states:
        raise typer.BadParameter(f"must be one of {', '.join(states)}", param_hint="--state")
    output.run(_list(context.obj, state.upper(), limit, as_json))


@app.command()
def show(context: typer.Context, job_id: JobArgument, as_json: AsJson = False) -> None:
    """Show one job."""
    output.run(_show(context.obj, job_id, as_json))


@app.command()
def cancel(context: typer.Context, job_id: JobArgument, as_json: AsJson = False) -> None:
    """Cancel a job."""
    output.run(_cancel(context.obj, job_id, as_json))


@app.command()
def watch(context: typer.Context, job_id: JobArgument, as_json: AsJson = False) -> None:
    """Follow a job to its end; with --json one event a line."""
    output.run(_watch(context.obj, job_id, as_json))


@app.command()
def delete(context: typer.Context, job_id: JobArgument, as_json: AsJson = False) -> None:
    """Remove a job's prompt and pictures."""
    output.run(_delete(context.obj, job_id, as_json))


async def _list(target: Target, state: str, limit: int, as_json: bool) -> None:
    async with target.public() as client:
        found = await client.list_jobs(limit, state)
    if as_json:
        output.print_json([output.as_json(job) for job in found])
        return
    rows = ((j.id, _state(j), j.model_version, len(j.images), _when(j), _short(j.spec.prompt)) for j in found)
    output.print_table(("job", "state", "model", "images", "created", "prompt"), rows)


async def _show(target: Target, job_id: str, as_json: bool) -> None:
    async with target.public() as client:
        _print_job(await client.get(job_id), as_json)


async def _cancel(target: Target, job_id: str, as_json: bool) -> None:
    async with target.public() as client:
        _print_job(await client.cancel(job_id), as_json)


async def _delete(target: Target, job_id: str, as_json: bool) -> None:
    async with target.public() as client:
        await client.delete(job_id)
    if as_json:
        output.print_json({"id": job_id, "deleted": True})
    else:
        sys.stdout.write(f"{job_id} is deleted\n")


async def _watch(target: Target, job_id: str, as_json: bool) -> None:
    async with target.public() as client:
        if as_json:
            async for event in client.watch(job_id):
                sys.stdout.write(json.dumps(output.as_json(event)) + "\n")
                sys.stdout.flush()
            return
        await follow(client, await client.get(job_id), quiet=False)
        _print_job(await client.get(job_id), as_json=False)


def _print_job(job: job_pb2.Job, as_json: bool) -> None:
    if as_json:
        output.print_json(output.as_json(job))
        return
    rows: list[tuple[str, object]] = [
        ("job", job.id),
        ("state", _state(job)),
        ("model", job.model_version),
        ("prompt", job.spec.prompt),
        ("size", f"{job.spec.width}x{job.spec.height}, {job.spec.steps} steps, seed {job.spec.seed}"),
        ("created", _when(job)),
        ("cost", f"{job.cost.charged_units:g} units charged, {job.cost.estimated_units:g} estimated"),
    ]
    if job.queue.position:
        rows.append(("queue", f"place {job.queue.position}, about {job.queue.wait_p50_s:.0f} s"))
    rows += [(f"attempt {a.attempt}", f"{a.outcome} on {a.worker} {a.reason}".strip()) for a in job.attempts]
    rows += [(f"image {i.index}", f"{i.url}  seed {i.seed}") for i in job.images]
    if job.HasField("error"):
        rows.append(("error", job.error.message))
    output.print_table(("", ""), rows)


def _state(job: job_pb2.Job) -> str:
    return job_pb2.Job.State.Name(job.state)


def _when(job: job_pb2.Job) -> str:
    return job.create_time.ToDatetime().isoformat(sep=" ", timespec="seconds")


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= 48 else prompt[:47] + "…"
