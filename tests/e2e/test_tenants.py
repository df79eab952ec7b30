"""Tenants through the door: money before work, limits of one key, and usage that can be read at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest

from libs import secret_files
from libs.clients.limiter_admin import LimiterAdminClient
from libs.clients.limiter_tenants import TenantChange, TenantsClient
from libs.clients.limiter_usage import UsageClient, UsageFilter
from libs.clients.scheduler_devices import device_times
from libs.ids import TenantId
from libs.rpc.channel import open_channel
from libs.testing import waiting
from libs.testing.stack import RunningStack

BUYER = TenantId("buyer")
BODY = {"prompt": "a yellow circle", "steps": 4}
KNOWN_WITHIN_S = 5.0


def operators(stack: RunningStack, service: str) -> grpc.aio.Channel:
    secrets = stack.folder.root / "secrets"
    return open_channel(
        stack.addresses[service],
        mesh_token=secret_files.read_token(secrets, secret_files.MESH_TOKEN),
        operator_token=secret_files.read_token(secrets, secret_files.OPERATOR_TOKEN),
    )


@pytest.fixture
async def limiter(stack: RunningStack) -> AsyncIterator[grpc.aio.Channel]:
    async with operators(stack, "ratelimiter") as channel:
        yield channel


async def test_a_tenant_pays_first_and_once(client: httpx.AsyncClient, limiter: grpc.aio.Channel) -> None:
    made = await LimiterAdminClient(limiter).create_key(BUYER, "payg", "")
    key, tenants = {"authorization": f"Bearer {made.secret}"}, TenantsClient(limiter)
    refused = await client.post("/v1/jobs", json=BODY, headers=key)
    assert (refused.status_code, refused.json()["details"][0]["reason"]) == (400, "BALANCE_EXHAUSTED")
    await tenants.credit(BUYER, 1_000_000, "invoice-1")
    drawn = await client.post("/v1/jobs", json=BODY, headers={**key, "prefer": "wait=60"}, timeout=70)
    charged = drawn.json()["cost"]["charged_units"]

    async def paid() -> bool:
        return (await tenants.get(BUYER)).spent_micros > 0

    await waiting.until(paid, within_s=20)
    wallet = await tenants.get(BUYER)
    assert (wallet.held_micros, wallet.balance_micros + wallet.spent_micros) == (0, 1_000_000)
    assert wallet.spent_micros == pytest.approx(charged * 20, abs=1)  # 0.02 for 1,000 units
    (line,) = [line async for line in UsageClient(limiter).read(UsageFilter(by=("key",), tenant_id=BUYER))]
    assert (line.key_id, line.jobs, line.images, line.micros) == (made.key.id, 1, 1, wallet.spent_micros)
    (own,) = (await client.get("/v1/usage", params={"by": "key"}, headers=key)).json()["usage"]
    assert (own["key"], own["jobs"], own["images"], own["gpu_ms"]) == (line.key_id, 1, 1, line.gpu_ms)
    limits = (await client.get("/v1/limits", headers=key)).json()["limits"]
    (balance,) = [limit for limit in limits if limit["dimension"] == "balance"]
    assert (balance["remaining"], own["money"]) == (wallet.balance_micros / 1e6, wallet.spent_micros / 1e6)
    assert (await client.get("/v1/events", headers=key)).status_code == 200


async def test_a_key_has_a_limit_of_its_own_within_seconds(
    client: httpx.AsyncClient, limiter: grpc.aio.Channel
) -> None:
    tenant, admin = TenantId("two-keys"), LimiterAdminClient(limiter)
    small, large = [await admin.create_key(tenant, "pro", name) for name in ("small", "large")]
    change = TenantChange(tenant, limits={"max_steps": "3"}, key_id=small.key.id)
    await TenantsClient(limiter).set(change)

    async def asked(secret: str) -> int:
        answer = await client.post("/v1/jobs", json=BODY, headers={"authorization": f"Bearer {secret}"})
        return answer.status_code

    async def refused() -> bool:
        return await asked(small.secret) == 400

    await waiting.until(refused, within_s=KNOWN_WITHIN_S)
    assert await asked(large.secret) in (200, 202)


@pytest.mark.slow  # the scheduler asks once a minute
async def test_what_the_devices_did_is_told(stack: RunningStack, client: httpx.AsyncClient) -> None:
    await client.post("/v1/jobs", json=BODY | {"seed": 1}, headers={"prefer": "wait=60"}, timeout=70)
    async with operators(stack, "scheduler") as channel, asyncio.timeout(90):
        while not any(day.time.busy_ms for day in (await device_times(channel, "", "")).days):
            await waiting.pause()
        told = await device_times(channel, "", "")
    assert {day.worker_id for day in told.days} >= {"modelserver-0"}
    assert all(day.time.idle_ms > 0 for day in told.days)
