"""The queue as operators see it: every job counted once, longest and dearest first."""

from __future__ import annotations

import asyncio

from services.scheduler.job import JobState
from services.scheduler.operators import queue_view
from tests.unit.services.scheduler.fakes import job


async def test_models_and_tenants_are_counted_with_the_longest_first() -> None:
    jobs = [
        job(100.0, model_version="m@1", tenant_id="acme", estimated_units=10.0),
        job(90.0, model_version="m@1", tenant_id="zeta", estimated_units=500.0),
        job(95.0, model_version="n@1", tenant_id="acme", estimated_units=10.0, state=JobState.RUNNING),
    ]
    view = await queue_view.count(jobs)
    assert [(name, n.queued, n.running, n.oldest) for name, n in view.models] == [
        ("m@1", 2, 0, 90.0),
        ("n@1", 0, 1, None),
    ]
    assert [(tenant, n.units) for tenant, n in view.tenants] == [("zeta", 500.0), ("acme", 10.0)]


async def test_only_the_top_tenants_are_told() -> None:
    jobs = [job(1.0, tenant_id=f"t{n}", estimated_units=float(n)) for n in range(30)]
    tenants = [tenant for tenant, _ in (await queue_view.count(jobs)).tenants]
    assert tenants == [f"t{n}" for n in range(29, 29 - queue_view.TOP, -1)]


async def test_others_have_their_turn_while_a_long_queue_is_counted() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await queue_view.count([job(1.0)] * (3 * queue_view.SLICE))
    task.cancel()
    assert turns >= 3
