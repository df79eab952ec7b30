"""What is agreed with tenants, and how soon every replica knows it, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from libs.ids import KeyId, TenantId
from libs.testing import waiting
from libs.testing.clock import ManualClock
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.events import TenantEvent
from services.ratelimiter.tenants.sql_events import SqlTenantEvents
from services.ratelimiter.tenants.sql_tenants import SqlTenants
from services.ratelimiter.tenants.tenants import Tenant
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers.agreed import Agreed
from services.ratelimiter.tiers.sql_agreements import SqlAgreements
from services.ratelimiter.tiers.tariffs import Agreement, Tariffs

ACME, OTHER = TenantId("acme"), TenantId("other")


@pytest.fixture
def agreements(database: Database) -> SqlAgreements:
    return SqlAgreements(database)


async def test_an_agreement_reads_back_and_the_next_takes_its_place(agreements: SqlAgreements):
    first = Agreement(
        ACME, fields={"daily_images": 5, "daily_units": None, "borrows": True}, verified=True, changed_s=1.0
    )
    key = Agreement(ACME, KeyId("key_1"), {"requests_per_minute": 2.5}, changed_s=2.0)
    for agreement in (first, key, Agreement(OTHER, changed_s=3.0)):
        await agreements.put(agreement)
    assert await agreements.of([ACME]) == [first, key]
    assert {agreement.tenant_id for agreement in await agreements.since(2.0)} == {ACME, OTHER}
    none = Agreement(ACME, changed_s=4.0)
    await agreements.put(none)
    assert await agreements.of([ACME, OTHER]) == [none, key, Agreement(OTHER, changed_s=3.0)]


async def test_every_replica_knows_a_change_within_five_seconds(agreements: SqlAgreements):
    clock, tariffs = ManualClock(), Tariffs(policy.load(policy.SHIPPED))
    replica = Agreed(agreements, tariffs, clock)
    await replica.look()
    task = asyncio.create_task(replica.run())
    await clock.advance(1)
    changed_s = clock.now() - 30  # by a clock that is slow
    await agreements.put(Agreement(ACME, fields={"daily_images": 5}, changed_s=changed_s))

    async def knows() -> bool:
        await clock.advance(0.1)
        return tariffs.of(ACME, "free").daily_images == 5

    began_s = clock.monotonic()
    await waiting.until(knows, within_s=30)
    assert clock.monotonic() - began_s <= 5
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_tenants_are_kept_by_id_and_change_their_tier(database: Database):
    tenants = SqlTenants(database)
    for name in ("c", "a", "b"):
        await tenants.put(Tenant(TenantId(name), "free", 1.5))
    await tenants.put(Tenant(TenantId("b"), "pro", 9.0))
    assert await tenants.find(TenantId("b")) == Tenant(TenantId("b"), "pro", 1.5)
    assert await tenants.find(ACME) is None
    assert [tenant.id for tenant in await tenants.among([TenantId("b"), ACME])] == ["b"]
    assert [tenant.id for tenant in await tenants.list("a", 1)] == ["b"]
    assert [tenant.id for tenant in await tenants.list("", 9)] == ["a", "b", "c"]


async def test_events_are_kept_once_and_told_newest_first(database: Database):
    events = SqlTenantEvents(database)
    made = [TenantEvent(f"e{n}", (ACME, OTHER)[n % 2], "usage", f"event {n}", float(n)) for n in range(4)]
    assert [await events.add(made) for _ in range(2)] == [4, 0]
    assert [event.id for event in await events.latest(ACME, 9)] == ["e2", "e0"]
    assert await events.latest(TenantId(""), 1) == [made[3]]
    assert [event.id for event in await events.latest(ACME, 9, before=(2.0, "e2"))] == ["e0"]
    assert [event.id for event in await events.latest(ACME, 9, before=(2.0, "e3"))] == ["e2", "e0"]
    await events.forget(2.0)
    assert [event.id for event in await events.latest(TenantId(""), 9)] == ["e3", "e2"]
