"""A scheduler on a port of its own, and what tests ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from darkroom.v1 import job_pb2
from libs.clients.scheduler import SchedulerClient, Submission
from libs.clients.scheduler_admin import SchedulerAdminClient
from libs.ids import JobId, KeyId, TenantId, new_job_id
from libs.rpc.channel import open_channel
from services.scheduler import app
from services.scheduler.settings import Settings
from tests.integration.services.scheduler.peers import OPERATOR, TOKEN, Worker
from tests.unit.services.scheduler.fakes import MODEL, spec

TENANT = TenantId("acme")


@asynccontextmanager
async def scheduler(settings: Settings) -> AsyncIterator[tuple[SchedulerClient, SchedulerAdminClient]]:
    async with AsyncExitStack() as after, app.running(settings) as server:
        address = f"127.0.0.1:{server.port}"
        channel = open_channel(address, mesh_token=TOKEN, operator_token=OPERATOR)
        await after.enter_async_context(channel)  # the client outlives the server, as gateways do
        yield SchedulerClient(channel), SchedulerAdminClient(channel)


def submission(**changes: Any) -> Submission:
    fields: dict[str, Any] = {
        "job_id": new_job_id(),
        "tenant_id": TENANT,
        "tier": "pro",
        "key_id": KeyId("key_1"),
        "spec": spec(),
        "model": "shapes",
        "model_version": MODEL.pinned,
        "estimated_units": 300.0,
        "request_id": "",
        "request_digest": "d",
    }
    return Submission(**{**fields, **changes})


async def follow(
    client: SchedulerClient, job_id: JobId, after: int = 0, on_started: Callable[[], None] = lambda: None
) -> list[job_pb2.JobEvent]:
    events = list[job_pb2.JobEvent]()
    async with asyncio.timeout(20):
        async for event in client.watch_job(TENANT, job_id, after):
            events.append(event)
            if event.WhichOneof("event") == "started":
                on_started()
    return events


def kinds(events: list[job_pb2.JobEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


async def until_held(worker: Worker) -> None:
    async with asyncio.timeout(20):
        await worker.holding.wait()
