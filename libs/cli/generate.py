"""`darkroom generate`: a prompt, perhaps with a picture, becomes a picture or a clip, with its progress on the way."""

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

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".mp4": "mp4"}
_ENDINGS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "video/mp4": ".mp4"}


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Where it goes; else picture.png or .mp4.")] = None,
    negative: Annotated[str, typer.Option(help="What to avoid.")] = "",
    model: Annotated[str, typer.Option(help="Model id; empty is the default model.")] = "",
    size: Annotated[str, typer.Option(help="Size in pixels, like 128x128.")] = "",
    images: Annotated[int | None, typer.Option(help="Number of pictures.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Strength of the prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; chosen when absent.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="Adapter as name or name:weight; may be repeated.")] = None,
    image: Annotated[Path | None, typer.Option(help="Picture to start from.", exists=True, dir_okay=False)] = None,
    mask: Annotated[
        Path | None, typer.Option(help="White where it is drawn anew.", exists=True, dir_okay=False)
    ] = None,
    strength: Annotated[float | None, typer.Option(help="How far to leave the picture, up to 1.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a clip.")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second of a clip.")] = None,
    cache: Annotated[str, typer.Option(help="use, bypass or refresh what was drawn before.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON.")] = False,
) -> None:
    """Draw a picture or a clip and save it."""
    spec = job_pb2.JobSpec(
        prompt=prompt, negative_prompt=negative, model=model, size=size, output_format=_form(out), cache=cache
    )
    given = {"images": images, "steps": steps, "guidance_scale": guidance, "seed": seed, "strength": strength}
    for name, value in {**given, "frames": frames, "fps": fps}.items():
        if value is not None:
            _set(spec, name, value)
    spec.loras.extend(_lora(text) for text in lora or ())
    uploads = {"input_image": image, "mask_image": mask}
    target: Target = context.obj
    output.run(_generate(target, spec, {name: path for name, path in uploads.items() if path}, out, as_json))


def _form(out: Path | None) -> str:
    """Return the format of a file, checked before the job is paid for; empty is the model's own."""
    if out is None:
        return ""
    if out.suffix.lower() not in _FORMATS:
        raise typer.BadParameter(f"{out.name} must end in {', '.join(_FORMATS)}", param_hint="--output")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}", param_hint="--output")
    return _FORMATS[out.suffix.lower()]


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


async def _generate(
    target: Target, spec: job_pb2.JobSpec, uploads: dict[str, Path], out: Path | None, as_json: bool
) -> None:
    async with target.public() as client:
        for field, path in uploads.items():
            setattr(spec, field, (await client.upload(path.read_bytes())).id)
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
            told = f"{path}  seed {image.seed}  {image.width}x{image.height}  {job.model_version}"
            sys.stdout.write(f"{told}  cache {job.cache.lower() or 'miss'}\n")


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


async def _save(client: PublicClient, job: job_pb2.Job, wanted: Path | None) -> list[Path]:
    several = len(job.images) > 1
    paths = []
    for image in job.images:
        out = wanted or Path("picture" + _ENDINGS.get(image.content_type, ""))
        path = out.with_name(f"{out.stem}-{image.index}{out.suffix}") if several else out
        path.write_bytes(await client.download(job.id, image.index))
        paths.append(path)
    return paths
