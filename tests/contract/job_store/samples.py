"""Jobs, pictures and changes for tests of the store."""

from __future__ import annotations

from typing import Any

from libs.generation.attempt import ImageStored, StageDone
from libs.generation.spec import GenerationSpec
from libs.ids import JobId, KeyId, TenantId, WorkerId
from services.scheduler.job import Change, Failure, Job, OutboxMessage
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.wishes import Ending, Mark, Requeue, Start

NOW = 1_800_000_000.0
TENANT, OTHER = TenantId("acme"), TenantId("zeta")
UNKNOWN = JobId("job_unknown")
WORKER = WorkerId("modelserver-0")
CONFIRM = OutboxMessage("confirm", {"reservation": "r1"})
SETTLE = OutboxMessage("settle", {"reservation": "r1", "units": 9.5})
STAGES = (StageDone("denoise", NOW, NOW + 1.5),)


def a_spec(**changes: Any) -> GenerationSpec:
    fields: dict[str, Any] = {
        "prompt": "a red circle – \x00 rouge ● ",
        "negative_prompt": "blur",
        "model": "shapes",
        "width": 64,
        "height": 64,
        "images": 2,
        "steps": 4,
        "guidance_scale": 5.0,
        "seed": 2**32 - 1,
        "sampler": "euler",
        "labels": {"team": "shapes"},
    }
    return GenerationSpec(**fields | changes)


def a_job(number: int = 1, **changes: Any) -> Job:
    """Return job `number`; higher ones are newer."""
    fields: dict[str, Any] = {
        "id": JobId(f"job_{number:026d}"),
        "tenant_id": TENANT,
        "tier": "free",
        "key_id": KeyId("key_1"),
        "model": "shapes",
        "model_version": "shapes@1",
        "spec": a_spec(),
        "estimated_units": 12.5,
        "created_at": NOW + number,
        "queued_at": NOW + number,
        "traceparent": "00-1-2-01",
        "deadline_at": NOW + 60,
    }
    return Job(**fields | changes)


def an_image(index: int, sha256: str = "") -> ImageStored:
    return ImageStored(index, sha256 or f"{index:064x}", "image/png", 64, 64, 2**32 - 1 - index, 700 + index)


def a_start(job: Job, attempt: int = 1, epoch: int = 1) -> Start:
    return Start(job.id, attempt, WORKER, epoch, NOW + 10, traceparent="00-1-3-01")


def a_success(job: Job, attempt: int = 1, epoch: int = 1, **changes: Any) -> Ending:
    fields: dict[str, Any] = {
        "images": (an_image(0), an_image(1)),
        "stages": STAGES,
        "gpu_ms": 1500.0,
        "actual_units": 11.0,
        "charged_units": 9.5,
        "charge_reason": "never more than estimated",
        "expires_at": NOW + 86_400,
        "outbox": (SETTLE,),
    }
    return Ending(job.id, attempt, epoch, Change.SUCCEED, NOW + 20, **fields | changes)


def an_ending(job: Job, attempt: int, change: Change, epoch: int = 1, **changes: Any) -> Ending:
    if change is Change.FAIL:
        changes.setdefault("failure", Failure("WORKER_LOST", "Its worker was lost.", {"attempts": "3"}))
    return Ending(job.id, attempt, epoch, change, NOW + 20, **changes)


def a_requeue(job: Job, attempt: int = 1, epoch: int = 1, **changes: Any) -> Requeue:
    return Requeue(job.id, attempt, epoch, NOW + 15, outcome="lost", reason="WORKER_LOST", **changes)


def a_mark(job: Job, attempt: int = 1, step: int = 10, epoch: int = 1) -> Mark:
    return Mark(job.id, attempt, epoch, f"checkpoints/{job.id}/{attempt}-{step}", step)


async def queued(store: JobStore, number: int = 1, **changes: Any) -> Job:
    """Accept a job on a store that epoch 1 leads."""
    return (await store.accept(a_job(number, **changes), ())).job


async def running(store: JobStore, number: int = 1, **changes: Any) -> Job:
    started = await store.start(a_start(await queued(store, number, **changes)))
    assert started is not None
    return started


async def succeeded(store: JobStore, number: int = 1, **changes: Any) -> Job:
    job = await store.end(a_success(await running(store, number), **changes))
    assert job is not None
    return job


async def kinds(store: JobStore, job: Job) -> list[str]:
    return [event.kind for event in await store.events(job.id, 0)]
