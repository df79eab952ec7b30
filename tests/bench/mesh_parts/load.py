"""An open load: jobs come at random moments at a rate, whatever became of those before."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

from libs import errors
from libs.clients.scheduler import Submission
from libs.clock import SystemClock
from libs.generation.spec import GenerationSpec
from libs.ids import JobId, KeyId, TenantId, new_job_id
from tests.bench.mesh_parts.mesh import Mesh
from tests.bench.mesh_parts.workers import STEPS

CLOCK = SystemClock()
TIERS = ("free", "pro", "enterprise")
TENANTS = 50


@dataclass(slots=True)
class Sent:
    """When jobs were submitted and acknowledged, in monotonic seconds; `failed` were not accepted."""

    sent_s: dict[str, float] = field(default_factory=dict)
    acked_s: dict[str, float] = field(default_factory=dict)
    failed: int = 0


def submission(seed: int, plan_models: list[str], draws_s: float, chance: random.Random) -> Submission:
    """Return a job that draws for some seconds; models are asked for by Zipf's law."""
    weights = [1 / (rank + 1) for rank in range(len(plan_models))]
    pinned = chance.choices(plan_models, weights)[0]
    fields: dict[str, Any] = {
        "prompt": f"{draws_s:.4f}", "negative_prompt": "", "model": pinned.partition("@")[0], "width": 512,
        "height": 512, "images": 1, "steps": STEPS, "guidance_scale": 5.0, "seed": seed, "sampler": "euler",
    }  # fmt: skip
    return Submission(
        job_id=new_job_id(),
        tenant_id=TenantId(f"tenant-{chance.randrange(TENANTS)}"),
        tier=chance.choice(TIERS),
        key_id=KeyId("key_1"),
        spec=GenerationSpec(**fields),
        model=pinned.partition("@")[0],
        model_version=pinned,
        estimated_units=max(1.0, 1000 * draws_s),
        request_id="",
        request_digest="d",
    )


async def offer(mesh: Mesh, per_s: float, seconds: float, draws_s: float, first_seed: int) -> Sent:
    """Submit for some seconds; returns when each was acknowledged or failed."""
    chance, sent = random.Random(first_seed), Sent()
    began, due, number = time.monotonic(), 0.0, first_seed
    async with asyncio.TaskGroup() as submits:
        while (due := due + chance.expovariate(per_s)) < seconds:
            await CLOCK.sleep(max(0.0, began + due - time.monotonic()))
            number += 1
            submits.create_task(_submit(mesh, submission(number, mesh.plan.names, draws_s, chance), sent))
    return sent


async def _submit(mesh: Mesh, job: Submission, sent: Sent) -> None:
    sent.sent_s[_key(job.job_id)] = time.monotonic()
    try:
        await mesh.client.submit(job)
    except errors.DarkroomError:
        sent.failed += 1
        return
    sent.acked_s[_key(job.job_id)] = time.monotonic()


def _key(job_id: JobId) -> str:
    return str(job_id)
