"""A worker that lives and cannot be reached for a moment, or for too long, while etcd still has it in the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.clock import SystemClock
from libs.coordination.etcd_registry import EtcdRegistry
from libs.fleet.announce import Announcer
from libs.testing import waiting
from libs.testing.tcp_proxy import TcpProxy
from services.scheduler.settings import Settings
from tests.integration.services.scheduler.asking import TENANT, follow, kinds, scheduler, submission, until_held
from tests.integration.services.scheduler.peers import Worker, good, serving, silent
from tests.unit.services.scheduler.fakes import record

WITHIN_S = 30.0


@asynccontextmanager
async def behind_a_proxy(worker: Worker, registry: EtcdRegistry) -> AsyncIterator[TcpProxy]:
    async with serving(worker) as server, TcpProxy(server.port) as proxy:
        announcer = Announcer(registry, record(address=proxy.address), lease_ttl_s=2, clock=SystemClock())
        announcing = asyncio.create_task(announcer.run())
        try:
            yield proxy
        finally:
            announcing.cancel()
            await asyncio.gather(announcing, return_exceptions=True)


async def test_a_moment_without_the_worker_costs_nothing(settings: Settings, registry: EtcdRegistry) -> None:
    worker = Worker(silent)
    async with behind_a_proxy(worker, registry) as proxy, scheduler(settings) as (client, _):
        wanted = submission()
        await client.submit(wanted)
        await until_held(worker)
        worker.script = good  # what it says to whoever attaches
        proxy.cut()
        proxy.heal()
        events = [event for event in await follow(client, wanted.job_id) if event.sequence]
        assert kinds(events) == ["queued", "started", "image", "completed"]
    assert [order.attach for order in worker.executed] == [False, True]


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_too_long_without_the_worker_loses_the_attempt_and_not_the_job(
    settings: Settings, registry: EtcdRegistry
) -> None:
    worker = Worker(silent)
    async with behind_a_proxy(worker, registry) as proxy, scheduler(settings) as (client, _):
        wanted = submission()
        await client.submit(wanted)
        await until_held(worker)
        worker.script = good
        proxy.cut()

        async def is_given_up() -> bool:
            job = await client.get_job(TENANT, wanted.job_id)
            return [attempt.outcome for attempt in job.attempts] == ["lost"]

        await waiting.until(is_given_up, WITHIN_S)
        proxy.heal()
        async with asyncio.timeout(WITHIN_S):
            assert kinds(await follow(client, wanted.job_id))[-1] == "completed"
        job = await client.get_job(TENANT, wanted.job_id)
        assert [(a.outcome, a.reason) for a in job.attempts] == [("lost", "WORKER_LOST"), ("succeeded", "")]
