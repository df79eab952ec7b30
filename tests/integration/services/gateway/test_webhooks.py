"""Webhooks from the commit of an event to a receiver on a real socket: a scheduler on SQLite, the gateway's agent.

Scheduler and gateway go by a clock that the test moves, so that a day of tries takes a second.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from standardwebhooks import Webhook

from libs.clients.deliveries import Result
from libs.clients.job_deliveries import JobDelivery, JobDeliveryClient
from libs.devstack.ports import free_port
from libs.generation.webhook import FINAL_EVENTS
from libs.generation.webhook import Webhook as Wanted
from libs.ids import JobId
from libs.rpc.channel import open_channel
from libs.rpc.server import RpcServer
from libs.testing import waiting
from libs.testing.clock import ManualClock
from libs.webhooks.shares import Claim
from services.gateway.webhooks.agent import WebhookAgent
from services.gateway.webhooks.destinations import Destinations
from services.gateway.webhooks.look_ups import LookUps
from services.gateway.webhooks.measures import WebhookMeasures
from services.gateway.webhooks.places import Places
from services.gateway.webhooks.sender import Sender
from services.scheduler.delivery_servicer import add_to
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.storage.sql_store import open_store
from services.scheduler.webhooks.store import Delivery as Row
from tests.integration.services.gateway.receiver import BROKEN, GONE, OK, Receiver
from tests.unit.services.gateway.webhooks.deliveries import SECRET
from tests.unit.services.scheduler.fakes import TENANT, Bench, pictures, record, silence, spec

TOKEN = "m" * 32
DAY_S = 24 * 3600.0


async def _loopback(_host: str, _port: int) -> list[str]:
    return ["127.0.0.1"]


class Noting(JobDeliveryClient):
    """A client that notes what was reported, once the scheduler has it."""

    results: list[Result]

    async def report(self, delivery: JobDelivery, result: Result) -> bool:
        dead = await super().report(delivery, result)
        self.results.append(result)
        return dead


class Mesh:
    """A scheduler that listens while `scheduler` is open, and gateways' agents that deliver for it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._port = free_port()
        self.results: list[Result] = []

    @asynccontextmanager
    async def scheduler(self) -> AsyncIterator[None]:
        async with self.bench.running():
            server = RpcServer(f"127.0.0.1:{self._port}", mesh_token=TOKEN)
            add_to(server.grpc, self.bench.store, self.bench.clock)
            await server.start(())
            yield
            await server.grpc.stop(None)

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[None]:
        clock = self.bench.clock
        sender = Sender(Destinations(insecure=True), lambda _delivery: SECRET, LookUps(_loopback, clock), clock)
        measures = WebhookMeasures(NoOpMeterProvider().get_meter("x")).of("jobs")
        async with open_channel(f"127.0.0.1:{self._port}", mesh_token=TOKEN) as channel:
            client = Noting(channel)
            client.results = self.results
            agent = asyncio.create_task(WebhookAgent(client, sender, Places(), measures, clock).run())
            yield
            agent.cancel()
            await asyncio.gather(agent, return_exceptions=True)

    async def job(self, receiver: Receiver, *events: str) -> JobId:
        url = f"http://hook.example:{receiver.port}/done"
        return (await self.bench.submit(spec=spec(webhook=Wanted(url, events or FINAL_EVENTS)))).id

    async def cancelled(self, receiver: Receiver) -> JobId:
        job_id = await self.job(receiver)
        await self.bench.scheduler.desk.cancel(job_id, TENANT)
        return job_id

    async def passing(self, is_so: Callable[[], Awaitable[bool]], step_s: float = 1.0) -> None:
        """Let time pass until something is so."""

        async def look() -> bool:
            await self.bench.clock.advance(step_s)
            return await is_so()

        await waiting.until(look, within_s=30)

    async def over(self, step_s: float = 1.0) -> None:
        """Let time pass until nothing is to be delivered any more."""

        async def nothing_waits() -> bool:
            return await self.bench.store.deliveries_waiting(1) == 0

        await self.passing(nothing_waits, step_s)

    async def ended(self, job_id: JobId) -> None:
        """Let time pass until a job is."""

        async def is_ended() -> bool:
            job = await self.bench.store.get(job_id)
            return job is not None and not job.open

        await self.passing(is_ended)

    async def was_tried(self) -> bool:
        """Whether a try has failed and the scheduler knows."""
        return any(result.reason for result in self.results)

    async def left(self) -> list[Row]:
        """What is not over; nobody else may be delivering."""
        return await self.bench.store.claim_deliveries(Claim(9, 1.0, self.bench.clock.now() + DAY_S))


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    url = f"sqlite+aiosqlite:///{tmp_path}/scheduler.db"
    await upgrade(url)
    store = open_store(url)
    bench = Bench(store)
    bench.clock = ManualClock(time.time())  # the receivers' library knows no other clock
    yield Mesh(bench)
    await store.close()


async def test_it_arrives_whatever_was_down_and_always_under_one_id(mesh: Mesh) -> None:
    receiver = Receiver((BROKEN, OK))
    async with receiver.serving():
        pass  # it has its port, and is down
    async with mesh.gateway():
        async with mesh.scheduler():
            await mesh.bench.workers(record())
            job_id = await mesh.job(receiver)
            await mesh.ended(job_id)
            await mesh.passing(mesh.was_tried)
        async with receiver.serving(), mesh.scheduler():
            await mesh.over(5.0)
    assert {post.headers["webhook-id"] for post in receiver.posts} == {f"{job_id}_4"}
    first, second = (Webhook(SECRET).verify(post.body, post.headers) for post in receiver.posts)
    assert first == second
    assert (first["type"], first["data"]["id"]) == ("generation.completed", job_id)
    assert b"a red circle" not in receiver.posts[0].body


async def test_a_gateway_that_dies_before_it_reports_leaves_the_delivery_to_another(mesh: Mesh) -> None:
    async with Receiver().serving() as receiver, mesh.scheduler():
        receiver.release.clear()
        async with mesh.gateway():
            job_id = await mesh.cancelled(receiver)
            await mesh.passing(receiver.was_reached)
        receiver.release.set()
        async with mesh.gateway():
            await mesh.over(5.0)
    first, second = receiver.posts
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == f"{job_id}_2"
    assert first.body == second.body


async def test_gateways_side_by_side_deliver_each_once(mesh: Mesh) -> None:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver().serving())
        await stack.enter_async_context(mesh.scheduler())
        jobs = {await mesh.cancelled(receiver) for _ in range(8)}
        for _ in range(3):
            await stack.enter_async_context(mesh.gateway())
        await mesh.over()
    assert sorted(json.loads(post.body)["data"]["id"] for post in receiver.posts) == sorted(jobs)


async def test_a_redirect_is_a_failure_that_says_so(mesh: Mesh) -> None:
    moved = b"HTTP/1.1 301 -\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n"
    async with Receiver((moved,)).serving() as receiver, mesh.scheduler():
        async with mesh.gateway():
            await mesh.cancelled(receiver)
            await mesh.passing(mesh.was_tried)
        [delivery] = await mesh.left()
    assert (delivery.reason, delivery.status) == ("redirected", 301)


async def test_a_receiver_that_is_gone_is_left_alone(mesh: Mesh) -> None:
    async with Receiver((GONE, OK)).serving() as receiver, mesh.scheduler(), mesh.gateway():
        (server,) = await mesh.bench.workers(record(), script=silence)
        job_id = await mesh.job(receiver, "started", "image", "completed")
        await mesh.passing(receiver.was_reached)
        await mesh.over()
        server.say(server.orders[0], *pictures(server.orders[0]))
        await mesh.ended(job_id)
        await mesh.over()
    assert len(receiver.posts) == 1
