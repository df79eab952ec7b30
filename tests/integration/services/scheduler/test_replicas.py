"""Two schedulers on one PostgreSQL and one etcd, over real gRPC: each takes jobs, one gives them to workers."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest

from darkroom.v1 import job_pb2
from libs import errors
from libs.clients.scheduler import SchedulerClient
from libs.clients.scheduler_admin import SchedulerAdminClient
from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.rpc import health
from libs.rpc.channel import open_channel
from libs.testing import waiting
from libs.testing.etcd import EtcdServer
from services.scheduler import app
from services.scheduler.settings import Settings
from services.scheduler.storage.sql_store import open_store
from services.scheduler.storage.store import Deposed
from tests.integration.services.scheduler.asking import TENANT, follow, kinds, submission, until_held
from tests.integration.services.scheduler.peers import OPERATOR, TOKEN, Worker, announced, good, silent

WITHIN_S = 20.0


class Replica(NamedTuple):
    client: SchedulerClient
    admin: SchedulerAdminClient
    address: str


@pytest.fixture
def settings(settings: Settings, postgres_url: str) -> Settings:
    return dataclasses.replace(settings, database_url=postgres_url, lease_ttl_s=1)


@asynccontextmanager
async def replica(settings: Settings) -> AsyncIterator[Replica]:
    async with AsyncExitStack() as after, app.running(settings) as server:
        address = f"127.0.0.1:{server.port}"
        channel = open_channel(address, mesh_token=TOKEN, operator_token=OPERATOR)
        await after.enter_async_context(channel)
        yield Replica(SchedulerClient(channel), SchedulerAdminClient(channel), address)


def somebody_leads(replica: Replica) -> Callable[[], Awaitable[bool]]:
    async def asked() -> bool:
        try:
            await replica[1].get_queue()
        except errors.Unavailable:
            return False
        return True

    return asked


async def test_a_standby_takes_cancels_and_relays(settings: Settings, registry: EtcdRegistry) -> None:
    worker = Worker(silent)
    async with replica(settings) as leading, announced(worker, registry):
        await waiting.until(somebody_leads(leading), WITHIN_S)
        async with replica(settings) as standby:
            client, admin, address = standby
            assert [await health.serves(at, health.LEADER) for at in (leading.address, address)] == [True, False]
            assert await health.serves(address)
            wanted = submission()
            assert not (await client.submit(wanted)).existing
            await until_held(worker)
            assert (await client.get_job(TENANT, wanted.job_id)).state == job_pb2.Job.RUNNING
            assert [view.running_job for view in await admin.list_workers()] == [wanted.job_id]
            async with asyncio.timeout(WITHIN_S):
                assert (await anext(client.watch_catalog())).models
            waits = submission()
            await client.submit(waits)

            async def tells_where_it_stands() -> bool:
                return (await client.get_job(TENANT, waits.job_id)).queue.position == 1

            await waiting.until(tells_where_it_stands, WITHIN_S)
            assert (await client.cancel_job(TENANT, waits.job_id)).id == waits.job_id
            assert kinds(await follow(client, waits.job_id)) == ["queued", "cancelled"]
            await client.cancel_job(TENANT, wanted.job_id)
            assert kinds(await follow(client, wanted.job_id))[-1] == "cancelled"
            await client.delete_job(TENANT, wanted.job_id)
            with pytest.raises(errors.NotFound):
                await leading[0].get_job(TENANT, wanted.job_id)


async def test_a_standby_takes_over_and_draws_nothing_again(settings: Settings, registry: EtcdRegistry) -> None:
    worker = Worker(silent)
    async with announced(worker, registry), AsyncExitStack() as outlives:
        async with replica(settings) as leading:
            await waiting.until(somebody_leads(leading), WITHIN_S)
            standby = await outlives.enter_async_context(replica(settings))
            wanted, waits = submission(), submission()
            await leading[0].submit(wanted)
            await until_held(worker)
            await standby[0].submit(waits)
            worker.script = good  # what it says to whoever attaches
        await waiting.until(somebody_leads(standby), WITHIN_S)
        assert kinds(await follow(standby[0], waits.job_id))[-1] == "completed"
        events = [event for event in await follow(standby[0], wanted.job_id) if event.sequence]
        assert kinds(events) == ["queued", "started", "image", "completed"]
    sent = [request for request in worker.executed if request.job_id == wanted.job_id]
    assert [request.attach for request in sent] == [False, True]
    assert sent[1].epoch > sent[0].epoch


async def test_a_leader_goes_on_without_etcd_and_ends_when_it_is_deposed(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with EtcdServer() as etcd, EtcdClient([etcd.endpoint]) as client:
        registry = EtcdRegistry(client, SystemClock())
        own = dataclasses.replace(settings, etcd_endpoints=(etcd.endpoint,))
        with pytest.raises(ExceptionGroup) as caught:
            await lead_without_etcd(own, etcd, registry, caplog)
    assert caught.group_contains(Deposed)


async def lead_without_etcd(
    settings: Settings, etcd: EtcdServer, registry: EtcdRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    async def is_fenced_by_the_store_only() -> bool:
        return "the lease of the lead is lost" in caplog.text

    async with announced(Worker(), registry), replica(settings) as leading:
        client, admin, _ = leading
        await waiting.until(somebody_leads(leading), WITHIN_S)
        async with asyncio.timeout(WITHIN_S):
            while not await admin.list_workers():
                await waiting.pause()
        await etcd.kill()
        await waiting.until(is_fenced_by_the_store_only, WITHIN_S)
        wanted = submission()
        await client.submit(wanted)
        assert kinds(await follow(client, wanted.job_id))[-1] == "completed"
        store = open_store(settings.database)
        await store.take_lead("another", 1.0)
        await store.close()
        async with asyncio.timeout(WITHIN_S):
            await asyncio.Event().wait()
