"""What the gateway reads for callers of their own account, over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from darkroom.ratelimiter.v1 import account_service_pb2 as pb
from darkroom.ratelimiter.v1 import account_service_pb2_grpc as rpc
from libs.clients.account import AccountClient, AccountLimit, UsageWanted
from libs.clients.limiter import LimiterClient, Reservation, Settlement
from libs.clients.limiter_tenants import TenantChange, TenantsClient
from libs.ids import JobId, KeyId, TenantId
from libs.rpc.channel import open_channel
from libs.secret_files import MESH_TOKEN, read_token
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.events import TenantEvent
from services.ratelimiter.tenants.sql_events import SqlTenantEvents

ACME, OTHER = TenantId("acme"), TenantId("other")
NO_KEY = KeyId("")
WANTED = UsageWanted("2023-11-01", "2023-11-30", ("key", "model"))
ANONYMOUS = "daily_images = 50\naddress_daily_images = 150\nmax_steps = 30\n"
PRICED = "price_per_1000_units = 2\n"


@pytest.fixture
def tiers(settings) -> None:
    text = settings.tiers.read_text()
    settings.tiers.write_text(text.replace("[free]", f"{PRICED}[free]") + ANONYMOUS)


@pytest.fixture
async def channel(tiers, settings, service) -> AsyncIterator[grpc.aio.Channel]:
    """As the gateway connects: with the mesh token, and none of operators."""
    mesh = read_token(settings.secrets_folder, MESH_TOKEN)
    async with open_channel(f"127.0.0.1:{service.port}", mesh_token=mesh) as opened:
        yield opened


@pytest.fixture
def account(channel: grpc.aio.Channel) -> AccountClient:
    return AccountClient(channel)


async def settle(limiter: LimiterClient, name: str, tenant: TenantId, key: str, model: str = "tiny@1") -> None:
    numbers: dict[str, Any] = {"reserved_units": 100.0, "actual_units": 80.0, "charged_units": 60.0, "gpu_ms": 90.0}
    job = Settlement(
        JobId(name), tenant, "pro", KeyId(key), images=2, model_version=model, outcome="succeeded", **numbers
    )
    assert await limiter.settle(job)


def by_name(limits: Any) -> dict[str, AccountLimit]:
    return {f"{limit.account}.{limit.dimension}": limit for limit in limits.limits}


async def test_a_key_with_limits_of_its_own_is_told_both(account: AccountClient, service):
    key = (await service.admin.create_key(ACME, "pro", "laptop")).key.id
    tenants = TenantsClient(service.channel)
    await tenants.set(TenantChange(ACME, limits={"max_steps": "40", "running_images": "2"}))
    await tenants.set(TenantChange(ACME, limits={"daily_images": "3", "max_steps": "50"}, key_id=key))
    await service.limiter.reserve(Reservation(JobId("job_1"), ACME, "pro", 400, images=2, key_id=key))
    found = await account.limits(ACME, "pro", key, "")
    told = {name: (limit.limit, limit.used, limit.remaining, limit.unit) for name, limit in by_name(found).items()}
    assert told["tenant.requests"] == told["key.requests"] == (60, 1, 59, "requests")
    assert told["tenant.cost"] == (1000, 400, 600, "units")
    assert told["key.daily_images"] == (3, 2, 1, "images")
    assert "tenant.daily_images" not in told
    assert (found.max_pixels, found.max_steps, found.running_images) == (None, 40, 2)
    other = by_name(await account.limits(ACME, "pro", KeyId("key_other"), ""))
    assert {limit.account for limit in other.values()} == {"tenant"}


async def test_a_caller_without_a_key_is_told_of_itself_and_of_its_address(account: AccountClient, service, clock):
    async def come(name: str) -> dict[str, tuple[float, float]]:
        tenant, address = TenantId(f"anon:{name}"), "5e1f"
        reservation = Reservation(JobId(f"job_{name}"), tenant, "anonymous", 1.0, images=1, address=address)
        assert (await service.limiter.reserve(reservation)).denial is None
        found = await account.limits(tenant, "anonymous", NO_KEY, address)
        assert found.max_steps == 30
        return {name: (limit.used, limit.limit) for name, limit in by_name(found).items() if limit.unit == "images"}

    assert (await come("one"))["tenant.daily_images"] == (1, 50)
    assert await come("two") == {
        "tenant.daily_images": (1, 50),
        "address.address": (2, 150),
        "newcomers.address": (2, 50),
    }


async def test_who_pays_is_told_of_the_balance_and_of_the_cap_until_the_month_ends(account: AccountClient, service):
    tenants = TenantsClient(service.channel)
    await tenants.set(TenantChange(ACME, tier="payg"))
    await tenants.credit(ACME, 5_000_000, "invoice-7")
    assert "tenant.spend" not in by_name(await account.limits(ACME, "payg", NO_KEY, ""))
    await tenants.set(TenantChange(ACME, cap_micros=2_000_000))
    assert (await service.limiter.reserve(Reservation(JobId("job_1"), ACME, "payg", 100, images=1))).denial is None
    told = by_name(await account.limits(ACME, "payg", NO_KEY, ""))
    balance, spend = told["tenant.balance"], told["tenant.spend"]
    assert (balance.unit, balance.limit, balance.used, balance.remaining) == ("money", 5.0, 0.2, 4.8)
    assert (spend.limit, spend.used, spend.remaining) == (2.0, 0.2, 1.8)
    assert (balance.resets_s, spend.resets_s) == (None, 1_701_388_800)  # 2023-12-01
    assert {limit.unit for limit in (await account.limits(ACME, "pro", NO_KEY, "")).limits} == {"requests", "units"}


async def test_usage_is_a_tenants_own_page_by_page(account: AccountClient, service):
    for n, (key, model) in enumerate([("k1", "a@1"), ("k1", "b@1"), ("k2", "a@1"), ("", "a@1"), ("", "a@1")]):
        await settle(service.limiter, f"job_{n}", ACME, key, model)
    await settle(service.limiter, "job_theirs", OTHER, "k1", "a@1")
    read, pages = [], 0
    after: tuple[str, ...] = ()
    while True:
        lines, more = await account.usage(ACME, replace(WANTED, after=after, most=2))
        read += [(line.key_id, line.model_version, line.jobs, line.gpu_ms) for line in lines]
        pages += 1
        if not more:
            break
        after = (lines[-1].key_id, lines[-1].model_version)
    assert read == [("", "a@1", 2, 180), ("k1", "a@1", 1, 90), ("k1", "b@1", 1, 90), ("k2", "a@1", 1, 90)]
    assert pages == 2
    assert await account.usage(ACME, replace(WANTED, from_day="2023-11-15")) == ([], False)
    by_day = replace(WANTED, by=("day",), after=("2023-11-13",))
    assert [line.jobs for line in (await account.usage(ACME, by_day))[0]] == [5]
    assert await account.usage(ACME, replace(by_day, after=("2023-11-14",))) == ([], False)


async def test_events_are_a_tenants_own_page_by_page_newest_first(account: AccountClient, service, settings, clock):
    database = Database(settings.database, deadline_s=10.0)
    times = [clock.now() - ago_s for ago_s in (9.0, 2.5, 2.5, 2.5, 1.0)]
    made = [TenantEvent(f"evt_{n}", ACME, "usage_spike", f"event {n}", at_s) for n, at_s in enumerate(times)]
    await SqlTenantEvents(database).add([*made, TenantEvent("evt_theirs", OTHER, "usage_spike", "…", times[1])])
    await database.close()
    read, before, pages = [], None, 0
    while before is not None or not pages:
        events, before = await account.events(ACME, before, 2)
        read += [event.id for event in events]
        pages += 1
    assert (read, pages) == (["evt_4", "evt_3", "evt_2", "evt_1", "evt_0"], 3)


async def test_without_a_tenant_nothing_is_read(channel: grpc.aio.Channel, service):
    await settle(service.limiter, "job_1", ACME, "k1")
    stub: rpc.AccountServiceAsyncStub = rpc.AccountServiceStub(channel)
    everything = pb.ListOwnUsageRequest(from_day="2023-11-01", to_day="2023-11-30", by=["day"])
    for call in (
        stub.ListOwnUsage(everything, timeout=10),
        stub.ListOwnEvents(pb.ListOwnEventsRequest(), timeout=10),
        stub.GetOwnLimits(pb.GetOwnLimitsRequest(tier="pro"), timeout=10),
        stub.ListOwnUsage(pb.ListOwnUsageRequest(tenant_id=ACME), timeout=10),
        stub.ListOwnUsage(pb.ListOwnUsageRequest(tenant_id=ACME, by=["day"], after=["a", "b"]), timeout=10),
        stub.ListOwnUsage(pb.ListOwnUsageRequest(tenant_id=ACME, by=["day"], after=["a"]), timeout=10),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
