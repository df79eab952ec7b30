"""`darkroom generate`: a prompt becomes a picture, with its progress on the way."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from darkroom.v1 import job_pb2
from libs.cli import output
from libs.cli.target import Target
from libs.clients.public import PublicClient
from libs.errors import DarkroomError
from libs.rpc.status import from_status

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes.")] = Path("picture.png"),
    negative: Annotated[str, typer.Option(help="What to avoid.")] = "",
    model: Annotated[str, typer.Option(help="Model id; empty is the default model.")] = "",
    size: Annotated[str, typer.Option(help="Size in pixels, like 128x128.")] = "",
    images: Annotated[int | None, typer.Option(help="Number of pictures.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Strength of the prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; chosen when absent.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="Adapter as name or name:weight; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON.")] = False,
) -> None:
    """Draw a picture and save it."""
    form = _FORMATS.get(out.suffix.lower())
    if form is None:
        raise typer.BadParameter(f"{out.name} must end in {', '.join(_FORMATS)}", param_hint="--output")
    if not out.parent.is_dir():  # told before the job is paid for
        raise typer.BadParameter(f"there is no folder {out.parent}", param_hint="--output")
    given = {"images": images, "steps": steps, "guidance_scale": guidance, "seed": seed}
    spec = job_pb2.JobSpec(prompt=prompt, negative_prompt=negative, model=model, size=size, output_format=form)
    for name, value in given.items():
        if value is not None:
            _set(spec, name, value)
    spec.loras.extend(_lora(text) for text in lora or ())
    target: Target = context.obj
    output.run(_generate(target, spec, out, as_json))


def _set(spec: job_pb2.JobSpec, name: str, value: float) -> None:
    try:
        setattr(spec, name, value)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"--{name.partition('_')[0]}") from None


def _lora(text: str) -> job_pb2.LoraUse:
    name, colon, weight = text.partition(":")
    try:
        return job_pb2.LoraUse(name=name, weight=float(weight) if colon else None)
    except ValueError:
        raise typer.BadParameter(f"{weight!r} is not a number", param_hint="--lora") from None


async def _generate(target: Target, spec: job_pb2.JobSpec, out: Path, as_json: bool) -> None:
    async with target.public() as client:
        created = await client.create(spec, str(uuid.uuid4()))
        await follow(client, created, quiet=as_json)
        job = await client.get(created.id)
        if job.state != job_pb2.Job.SUCCEEDED:
            raise ended_badly(job)
        paths = await _save(client, job, out)
    if as_json:
        output.print_json({**output.as_json(job), "files": [str(path) for path in paths]})
    else:
        for path, image in zip(paths, job.images, strict=True):
            sys.stdout.write(f"{path}  seed {image.seed}  {image.width}x{image.height}  {job.model_version}\n")


async def follow(client: PublicClient, job: job_pb2.Job, *, quiet: bool) -> None:
    """Show a job's way until it ends; `quiet` shows nothing and waits."""
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(_waiting(job.queue), total=None)
        async for event in client.watch(job.id):
            kind = event.WhichOneof("event")
            if kind == "queued":
                bars.update(task, description=_waiting(event.queued.queue), total=None)
            elif kind == "started":
                bars.update(task, description=f"drawing on {event.started.worker}")
            elif kind == "progress":
                left = f"drawing, {event.progress.eta_s:.1f} s left"
                bars.update(task, description=left, completed=event.progress.step, total=event.progress.total)


def ended_badly(job: job_pb2.Job) -> DarkroomError:
    """Return the error of a job that has no pictures."""
    if job.HasField("error"):
        return from_status(job.error)
    state = job_pb2.Job.State.Name(job.state)
    return DarkroomError(f"The job {job.id} is {state.lower()}.", reason=state)


def _waiting(queue: job_pb2.QueueStatus) -> str:
    return f"waiting, place {queue.position}, about {queue.wait_p50_s:.0f} s" if queue.position else "waiting"


async def _save(client: PublicClient, job: job_pb2.Job, out: Path) -> list[Path]:
    several = len(job.images) > 1
    paths = []
    for image in job.images:
        path = out.with_name(f"{out.stem}-{image.index}{out.suffix}") if several else out
        path.write_bytes(await client.download(job.id, image.index))
        paths.append(path)
    return paths
