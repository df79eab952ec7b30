"""The scheduler as a whole over real gRPC, etcd and SQLite, between a limiter and a worker on loopback."""

from __future__ import annotations

import asyncio

import pytest

from darkroom.v1 import job_pb2
from libs import errors
from libs.coordination.etcd_registry import EtcdRegistry
from libs.ids import JobId, TenantId
from services.scheduler.settings import Settings
from tests.integration.services.scheduler.asking import TENANT, follow, kinds, scheduler, submission, until_held
from tests.integration.services.scheduler.peers import (
    SHA,
    TOKEN,
    Limiter,
    Worker,
    announced,
    busy,
    good,
    limiting,
    silent,
)
from tests.unit.services.scheduler.fakes import MODEL


async def test_one_job_from_submit_to_settlement(settings: Settings, registry: EtcdRegistry) -> None:
    limiter, worker = Limiter(), Worker()
    async with limiting(limiter) as address:
        changed = Settings(data=settings.data, limiter_address=address, etcd_endpoints=settings.etcd_endpoints)
        async with scheduler(changed) as (client, admin), announced(worker, registry):
            wanted = submission(request_id="r1")
            worker.may_begin.clear()  # its first step is told to those who watch by then
            first = await client.submit(wanted)
            assert not first.existing
            assert (first.job.state, first.job.queue.position) == (job_pb2.Job.QUEUED, 1)
            events = await follow(client, wanted.job_id, on_started=worker.may_begin.set)
            durable = [event for event in events if event.sequence]
            assert kinds(durable) == ["queued", "started", "image", "completed"]
            steps = [event.progress.step for event in events if event.WhichOneof("event") == "progress"]
            assert steps == sorted(steps)
            assert {1, 3} <= set(steps)
            assert kinds(await follow(client, wanted.job_id, after=3)) == ["completed"]
            done = await client.get_job(TENANT, wanted.job_id)
            assert (done.state, done.images[0].sha256, done.cost.charged_units) == (job_pb2.Job.SUCCEEDED, SHA, 120.0)
            again = await client.submit(submission(request_id="r1", request_digest="other"))
            assert (again.existing, again.job.id, again.request_digest) == (True, wanted.job_id, "d")
            found = await client.find_job(TENANT, "r1")
            assert found is not None
            assert found.job.id == wanted.job_id
            page = await client.list_jobs(TENANT, 1, "", job_pb2.Job.SUCCEEDED)
            assert ([job.id for job in page.jobs], page.more) == ([wanted.job_id], False)
            (view,) = await admin.list_workers()
            assert (view.id, view.models) == ("modelserver-0", (MODEL.pinned,))
            assert (view.temperature_celsius, view.power_watts, view.throttle) == (61.0, None, ("sw_power_cap",))
            assert (view.residency, view.load_share) == ({MODEL.pinned: "ram"}, 0.5)
            assert (await admin.get_queue()).tiers[0].tier == "enterprise"
            async with asyncio.timeout(20):
                confirmed, settled = await limiter.told.get(), await limiter.told.get()
            assert (confirmed.reservation_id, confirmed.units) == (wanted.job_id, 300.0)
            assert (settled.outcome, settled.charged_units, settled.gpu_ms) == ("succeeded", 120.0, 120.0)
            await client.delete_job(TENANT, wanted.job_id)
            with pytest.raises(errors.NotFound):
                await client.get_job(TENANT, wanted.job_id)
    assert worker.metadata[0]["x-darkroom-mesh-token"] == TOKEN


async def test_the_catalog_is_sent_and_sent_again(settings: Settings, registry: EtcdRegistry) -> None:
    async with scheduler(settings) as (client, _), asyncio.timeout(20):
        catalogs = client.watch_catalog()
        assert (await anext(catalogs)).models == ()
        async with announced(Worker(), registry):
            listed = await anext(catalogs)
            assert [(m.id, m.workers) for m in listed.models] == [("shapes", 1)]
            assert listed.default_model == "shapes"
            assert MODEL.pinned in listed.costs.entries
            estimate = await client.estimate_wait("pro", MODEL.pinned, 10.0)
            assert (estimate.position, estimate.feasible) == (1, True)
        assert [(m.id, m.workers) for m in (await anext(catalogs)).models] == [("shapes", 0)]


async def test_a_worker_that_dies_is_replaced(settings: Settings, registry: EtcdRegistry) -> None:
    dying = Worker(silent)
    async with scheduler(settings) as (client, _):
        async with announced(dying, registry) as server:
            wanted = submission()
            await client.submit(wanted)
            await until_held(dying)
            await server.grpc.stop(None)
        async with announced(Worker(), registry, incarnation="b"):
            assert kinds([e for e in await follow(client, wanted.job_id) if e.sequence]) == [
                "queued", "started", "queued", "started", "image", "completed",
            ]  # fmt: skip
        job = await client.get_job(TENANT, wanted.job_id)
        assert [(a.outcome, a.reason) for a in job.attempts] == [("lost", "WORKER_LOST"), ("succeeded", "")]


async def test_a_refusal_is_not_counted(settings: Settings, registry: EtcdRegistry) -> None:
    worker = Worker(lambda request: good(request) if request.attempt > 1 else busy(request))
    async with scheduler(settings) as (client, _), announced(worker, registry):
        wanted = submission()
        await client.submit(wanted)
        await follow(client, wanted.job_id)
        job = await client.get_job(TENANT, wanted.job_id)
        assert [(a.outcome, a.reason) for a in job.attempts] == [("refused", "WORKER_BUSY"), ("succeeded", "")]


async def test_a_running_job_is_cancelled(settings: Settings, registry: EtcdRegistry) -> None:
    worker = Worker(silent)
    async with scheduler(settings) as (client, admin), announced(worker, registry):
        wanted = submission()
        await client.submit(wanted)
        await until_held(worker)
        assert (await admin.list_workers())[0].running_job == wanted.job_id
        assert (await client.cancel_job(TENANT, wanted.job_id)).state == job_pb2.Job.RUNNING
        assert kinds(await follow(client, wanted.job_id, after=2))[-1] == "cancelled"
        assert (await client.get_job(TENANT, wanted.job_id)).cost.charged_units == 30.0


async def test_a_restart_follows_what_ran_and_ends_streams_at_once(settings: Settings, registry: EtcdRegistry) -> None:
    worker = Worker(silent)
    async with announced(worker, registry):
        async with scheduler(settings) as (client, _):
            wanted = submission()
            await client.submit(wanted)
            await until_held(worker)
            watching = asyncio.create_task(follow(client, wanted.job_id))
            catalog = client.watch_catalog()
            async with asyncio.timeout(20):
                await anext(catalog)
        with pytest.raises(errors.Unavailable):
            await watching
        worker.script = good
        async with scheduler(settings) as (client, _):
            assert kinds([e for e in await follow(client, wanted.job_id, 2) if e.sequence]) == ["image", "completed"]
            job = await client.get_job(TENANT, wanted.job_id)
            assert [a.outcome for a in job.attempts] == ["succeeded"]
    begun, followed = worker.executed
    assert (begun.attach, followed.attach, followed.attempt) == (False, True, 1)
    assert followed.epoch > begun.epoch
    assert not worker.cancelled.is_set()


async def test_refusals_of_the_callers(settings: Settings) -> None:
    async with scheduler(settings) as (client, _):
        wanted = submission()
        await client.submit(wanted)
        with pytest.raises(errors.NotFound) as caught:
            await client.get_job(TenantId("other"), wanted.job_id)
        assert caught.value.reason == "JOB_NOT_FOUND"
        with pytest.raises(errors.NotFound):
            await follow(client, JobId("job_unknown"))
        assert await client.find_job(TENANT, "never used") is None
