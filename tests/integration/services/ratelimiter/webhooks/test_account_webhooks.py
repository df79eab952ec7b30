"""From what a tenant uses to what its receiver is told: rate limiter, a gateway's agents, a receiver on a real socket.

The two go by clocks of their own that the test moves; the receivers' library knows no other clock than the real one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from standardwebhooks import Webhook

from libs.clients.endpoints import Endpoint, EndpointsClient
from libs.clients.limiter import Reservation, Settlement
from libs.clients.limiter_tenants import TenantChange, TenantsClient
from libs.devstack.ports import free_port
from libs.ids import JobId, KeyId, TenantId
from libs.rpc.channel import open_channel
from libs.secret_files import endpoint_secret
from libs.testing import waiting
from libs.testing.clock import ManualClock
from services.gateway.webhooks.delivering import Delivering
from services.gateway.webhooks.destinations import Destinations
from tests.integration.services.gateway.receiver import BROKEN, GONE, OK, Receiver
from tests.integration.services.ratelimiter.conftest import Service, Start

ACME, OTHER = TenantId("acme"), TenantId("other")
DEPLOYMENT = "d" * 32
LOOKS_EVERY_S = 60.0  # for usage that a tenant should know of


class Mesh:
    """A rate limiter that starts again and again on one folder, and gateways that deliver for it."""

    def __init__(self, start: Start, clock: ManualClock) -> None:
        self.start, self.clock, self.gateways_clock = start, clock, ManualClock(time.time())

    @asynccontextmanager
    async def gateway(self, service: Service) -> AsyncIterator[None]:
        """A gateway's agents; its scheduler is away all the time."""
        delivering = Delivering(Destinations(insecure=True), DEPLOYMENT, self.gateways_clock)
        nobody = open_channel(f"127.0.0.1:{free_port()}", mesh_token="m" * 32)
        async with nobody as scheduler, delivering.running(scheduler, service.channel):
            yield

    async def passing(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Let time pass until something is so."""

        async def look() -> bool:
            await self.clock.advance(1.0)
            await self.gateways_clock.advance(1.0)
            return await is_so()

        await waiting.until(look, within_s=30)

    async def told(self, service: Service, tenant: TenantId, events: int) -> None:
        """Let time pass until a tenant has so many events."""

        async def has() -> bool:
            await self.clock.advance(LOOKS_EVERY_S)
            return len(await TenantsClient(service.channel).events(tenant)) >= events

        await waiting.until(has, within_s=30)


@pytest.fixture
def mesh(start: Start, clock: ManualClock) -> Mesh:
    return Mesh(start, clock)


async def endpoint(service: Service, receiver: Receiver, *kinds: str, tenant: TenantId = ACME) -> Endpoint:
    return await EndpointsClient(service.channel).create(tenant, f"http://127.0.0.1:{receiver.port}/events", kinds)


async def used(service: Service, tenant: TenantId, images: int) -> None:
    """Have a tenant that may draw ten pictures a day draw some."""
    await TenantsClient(service.channel).set(TenantChange(tenant, tier="pro", limits={"daily_images": "10"}))
    for number in range(images):
        job = JobId(f"job_{tenant}_{number}")
        assert (await service.limiter.reserve(Reservation(job, tenant, "pro", 10.0, images=1))).denial is None
        await service.limiter.settle(
            Settlement(
                job, tenant, "pro", KeyId(""), images=1, model_version="tiny@1", outcome="succeeded",
                reserved_units=10.0, actual_units=10.0, charged_units=10.0, gpu_ms=10.0,
            )
        )  # fmt: skip


async def fates(service: Service, at: Endpoint, tenant: TenantId = ACME) -> list[tuple[str, int, int]]:
    found = await EndpointsClient(service.channel).deliveries(tenant, at.id)
    return [(each.fate, each.tries, each.status) for each in found]


async def test_half_of_a_day_is_told_signed_whatever_was_down(mesh: Mesh):
    receiver, others = Receiver((BROKEN, OK)), Receiver()
    async with receiver.serving(), others.serving():
        async with mesh.start() as service:
            at = await endpoint(service, receiver, "usage_threshold")
            await endpoint(service, others, "usage_spike")
            await endpoint(service, others, tenant=OTHER)
            await used(service, ACME, 5)
            await mesh.told(service, ACME, 1)
        async with mesh.start() as service, mesh.gateway(service):

            async def arrived() -> bool:
                return await fates(service, at) == [("DELIVERED", 2, 200)]

            await mesh.passing(arrived)
            [news] = await TenantsClient(service.channel).events(ACME)
    first, second = (
        Webhook(endpoint_secret(DEPLOYMENT, at.id)).verify(post.body, post.headers) for post in receiver.posts
    )
    assert first == second
    assert first["type"] == "account.usage_threshold"
    assert first["data"] == {"id": news.id, "account": ACME, "message": news.message}
    assert news.message.startswith("50 % of today's 10 images are used (5).")
    assert [post.headers["webhook-id"] for post in receiver.posts] == [news.id] * 2
    assert others.posts == []


async def test_gateways_side_by_side_tell_each_endpoint_once(mesh: Mesh):
    receivers = [Receiver(), Receiver()]
    async with receivers[0].serving(), receivers[1].serving(), mesh.start() as service:
        places = [await endpoint(service, receiver) for receiver in receivers]
        await used(service, ACME, 10)
        await mesh.told(service, ACME, 1)
        async with mesh.gateway(service), mesh.gateway(service), mesh.gateway(service):

            async def arrived() -> bool:
                return [await fates(service, place) for place in places] == [[("DELIVERED", 1, 200)]] * 2

            await mesh.passing(arrived)
    assert [len(receiver.posts) for receiver in receivers] == [1, 1]


async def test_an_endpoint_that_is_gone_is_left_alone_and_says_since_when(mesh: Mesh):
    async with Receiver((GONE, OK)).serving() as receiver, mesh.start() as service, mesh.gateway(service):
        at, endpoints = await endpoint(service, receiver), EndpointsClient(service.channel)
        await used(service, ACME, 5)
        await mesh.told(service, ACME, 1)

        async def disabled() -> bool:
            return (await endpoints.get(ACME, at.id)).disabled_s is not None

        await mesh.passing(disabled)
        await used(service, ACME, 8)
        await mesh.told(service, ACME, 2)
        assert await fates(service, at) == [("GONE", 1, 410)]
    assert len(receiver.posts) == 1
