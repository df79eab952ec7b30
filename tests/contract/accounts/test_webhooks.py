"""Endpoints of tenants and deliveries of events: committed with the event, claimed under a lease until somebody reports."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import EndpointId, TenantId
from libs.sql.work import Work
from libs.webhooks.shares import Claim
from libs.webhooks.tries import TRIED_FOR_S, Fate, Told
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.events import TenantEvent
from services.ratelimiter.tenants.sql_events import SqlTenantEvents
from services.ratelimiter.tenants.sql_tenants import SqlTenants
from services.ratelimiter.tenants.tenants import Tenant
from services.ratelimiter.webhooks.deliveries import Delivery, Report
from services.ratelimiter.webhooks.endpoints import Endpoint
from services.ratelimiter.webhooks.sql_deliveries import SqlEventDeliveries
from services.ratelimiter.webhooks.sql_endpoints import SqlEndpoints

ACME, OTHER = TenantId("acme"), TenantId("other")
NOW = 1_800_000_000.0
SOON = NOW + 5


def an_endpoint(number: int = 1, **changes: Any) -> Endpoint:
    fields: dict[str, Any] = {
        "id": EndpointId(f"wh_{number}"),
        "tenant_id": ACME,
        "url": "https://hook.example/events",
        "host": "hook.example",
        "kinds": (),
        "created_s": NOW - 100 + number,
    }
    return Endpoint(**fields | changes)


def an_event(number: int = 1, **changes: Any) -> TenantEvent:
    fields: dict[str, Any] = {"tenant_id": ACME, "kind": "usage_threshold", "message": "50 %", "at_s": NOW}
    return TenantEvent(f"evt_{number}", **fields | changes)


class Kept:
    """The three stores over one database."""

    def __init__(self, database: Database) -> None:
        self.endpoints, self.events = SqlEndpoints(database), SqlTenantEvents(database)
        self.deliveries = SqlEventDeliveries(database)

    async def endpoint(self, number: int = 1, **changes: Any) -> Endpoint:
        made = an_endpoint(number, **changes)
        assert await self.endpoints.add(made, 99)
        return made

    async def happens(self, *numbers: int, **changes: Any) -> None:
        assert await self.events.add([an_event(number, **changes) for number in numbers]) == len(numbers)

    async def claim(self, now: float = SOON, limit: int = 9, **changes: Any) -> list[Delivery]:
        return list(await self.deliveries.claim(Claim(limit, 60.0, now, **changes)))

    async def report(self, delivery: Delivery, told: Told, now: float = SOON, **changes: Any) -> Fate | None:
        report = Report(delivery.event_id, delivery.endpoint_id, delivery.tries, told, now, 0.5, **changes)
        return await self.deliveries.report(report)


@pytest.fixture
def kept(database: Database) -> Kept:
    return Kept(database)


async def test_endpoints_are_kept_by_tenant_oldest_first_and_no_more_than_allowed(kept: Kept):
    made = [an_endpoint(2), an_endpoint(1, kinds=("usage_threshold", "usage_spike"), url="https://é.example/x?y")]
    assert [await kept.endpoints.add(each, 2) for each in made] == [True, True]
    assert not await kept.endpoints.add(an_endpoint(3), 2)
    assert await kept.endpoints.add(an_endpoint(4, tenant_id=OTHER), 2)
    assert await kept.endpoints.list(ACME) == made[::-1]
    assert await kept.endpoints.list(TenantId("nobody")) == []


async def test_of_many_that_ask_at_once_no_more_get_one_than_allowed(kept: Kept, database: Database):
    await SqlTenants(database).put(Tenant(ACME, "pro", NOW))
    asked = await asyncio.gather(*(kept.endpoints.add(an_endpoint(number), 3) for number in range(8)))
    assert (sum(asked), len(await kept.endpoints.list(ACME))) == (3, 3)


async def test_nobody_removes_anothers_endpoint(kept: Kept):
    endpoint = await kept.endpoint()
    assert not await kept.endpoints.remove(OTHER, endpoint.id)
    assert await kept.endpoints.remove(ACME, endpoint.id)
    assert not await kept.endpoints.remove(ACME, endpoint.id)
    assert await kept.endpoints.list(ACME) == []


async def test_an_event_is_told_to_every_endpoint_that_wants_its_kind_once(kept: Kept):
    await kept.endpoint(1)
    await kept.endpoint(2, kinds=("usage_spike", "usage_threshold"), url="https://b.example/", host="b.example")
    await kept.endpoint(3, kinds=("usage_spike",))
    await kept.endpoint(4, tenant_id=OTHER)
    await kept.happens(1)
    assert await kept.events.add([an_event(1)]) == 0
    first, second = sorted(await kept.claim(), key=lambda each: each.endpoint_id)
    assert first == Delivery(
        "evt_1", EndpointId("wh_1"), ACME, "https://hook.example/events", "hook.example",
        "usage_threshold", "50 %", NOW, tries=1, due_at=SOON + 60,
    )  # fmt: skip
    assert (second.endpoint_id, second.url, second.host) == ("wh_2", "https://b.example/", "b.example")


async def test_an_event_and_what_is_to_be_sent_of_it_are_kept_together_or_not_at_all(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
):
    await kept.endpoint()
    queue = SqlEventDeliveries.queue

    async def dies(*given: Any) -> None:
        await queue(*given)
        raise ValueError("the process dies here")

    monkeypatch.setattr(SqlEventDeliveries, "queue", dies)
    with pytest.raises(ValueError, match="dies here"):
        await kept.happens(1)
    monkeypatch.undo()
    assert (await kept.claim(), await kept.events.latest(ACME, 9)) == ([], [])
    await kept.happens(1)
    assert len(await kept.claim()) == 1


class Counted:
    """A database that counts what is executed in its transactions, and the connection of one of them."""

    def __init__(self, database: Database) -> None:
        self._database, self.executed = database, 0
        self._within: AsyncConnection | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._within, name)

    async def execute(self, *given: Any) -> Any:
        assert self._within is not None
        self.executed += 1
        return await self._within.execute(*given)

    async def write(self, work: Work[int]) -> int:
        async def counted(within: AsyncConnection) -> int:
            self._within = within
            return await work(self)  # type: ignore[arg-type]

        return await self._database.write(counted)


async def test_however_many_events_come_at_once_they_are_written_in_three_statements(kept: Kept, database: Database):
    tenants = [TenantId(f"tenant_{number}") for number in range(20)]
    for number, tenant_id in enumerate(tenants):
        await kept.endpoint(number, tenant_id=tenant_id)
    await kept.endpoint(99, tenant_id=tenants[0], kinds=("usage_spike",))
    counted = Counted(database)
    events = [an_event(number, tenant_id=tenants[number % 20]) for number in range(40)]
    await kept.events.add(events[:10])
    assert await SqlTenantEvents(counted).add([*events, *events]) == 30  # type: ignore[arg-type]
    assert counted.executed == 3
    claimed = await kept.claim(limit=99)
    assert {(each.event_id, each.endpoint_id) for each in claimed} == {(f"evt_{n}", f"wh_{n % 20}") for n in range(40)}
    assert len(claimed) == 40
    assert await SqlTenantEvents(counted).add([]) == 0  # type: ignore[arg-type]


async def test_a_claim_is_a_lease_and_a_claimer_that_dies_leaves_it_due(kept: Kept):
    await kept.endpoint()
    await kept.happens(1)
    assert len(await kept.claim()) == 1
    assert await kept.claim(SOON + 59) == []
    [again] = await kept.claim(SOON + 60)
    assert again.tries == 2


async def test_claimers_side_by_side_get_different_ones(kept: Kept):
    await kept.endpoint()
    await kept.happens(*range(8))
    claims = await asyncio.gather(*(kept.claim(limit=3) for _ in range(4)))
    claims.append(await kept.claim())  # what was skipped because another claimer held it
    found = [delivery.event_id for claimed in claims for delivery in claimed]
    assert (len(found), len(set(found))) == (8, 8)


async def test_no_tenant_and_no_receiver_gets_more_than_its_share(kept: Kept):
    await kept.endpoint(1)
    await kept.endpoint(2, host="b.example")
    await kept.endpoint(3, tenant_id=OTHER)
    await kept.happens(*range(5))
    await kept.happens(8, tenant_id=OTHER, at_s=NOW + 1)
    claimed = await kept.claim(limit=99, most_a_receiver=2, most_a_tenant=3)
    assert [(each.tenant_id, each.host) for each in claimed] == [
        (ACME, "hook.example"), (ACME, "b.example"), (ACME, "hook.example"), (OTHER, "hook.example"),
    ]  # fmt: skip
    assert await kept.claim(busy_tenants=frozenset({ACME})) == []
    assert {each.host for each in await kept.claim(busy_receivers=frozenset({(ACME, "b.example")}))} == {"hook.example"}


async def test_what_was_delivered_is_over(kept: Kept):
    await kept.endpoint()
    await kept.happens(1)
    [delivery] = await kept.claim()
    assert await kept.deliveries.waiting(9) == 1
    assert await kept.report(delivery, Told.DELIVERED, status=204) is Fate.DELIVERED
    assert await kept.report(delivery, Told.FAILED) is None
    assert (await kept.claim(SOON + 3600), await kept.deliveries.waiting(9)) == ([], 0)
    [noted] = await kept.deliveries.latest(delivery.endpoint_id, 9)
    assert (noted.fate, noted.status, noted.tries, noted.due_at) == (Fate.DELIVERED, 204, 1, None)


async def test_what_failed_is_due_again_and_dead_after_a_day(kept: Kept):
    await kept.endpoint()
    await kept.happens(1)
    [delivery] = await kept.claim()
    assert await kept.report(delivery, Told.FAILED, status=500, reason="refused") is Fate.WAITING
    [noted] = await kept.deliveries.latest(delivery.endpoint_id, 9)
    assert (noted.status, noted.reason, noted.due_at) == (500, "refused", SOON + 2.5)
    [again] = await kept.claim(SOON + 3)
    assert await kept.report(again, Told.FAILED, NOW + TRIED_FOR_S) is Fate.DEAD
    assert await kept.claim(NOW + 2 * TRIED_FOR_S) == []


async def test_what_was_given_back_is_due_at_once_and_was_no_try(kept: Kept):
    await kept.endpoint()
    await kept.happens(1)
    [delivery] = await kept.claim()
    assert await kept.report(delivery, Told.RETURNED, SOON + 2) is Fate.WAITING
    [again] = await kept.claim(SOON + 2)
    assert again.tries == 1


async def test_an_endpoint_that_is_gone_hears_nothing_more_and_others_do(kept: Kept):
    await kept.endpoint(1)
    await kept.endpoint(2)
    await kept.happens(1, 2)
    delivery = next(each for each in await kept.claim() if each.endpoint_id == "wh_1")
    assert await kept.report(delivery, Told.GONE, SOON + 1, status=410) is Fate.GONE
    assert [each.disabled_s for each in await kept.endpoints.list(ACME)] == [SOON + 1, None]
    assert await kept.deliveries.waiting(9) == 2
    await kept.happens(3)
    assert {each.endpoint_id for each in await kept.claim(SOON + 61)} == {"wh_2"}


async def test_two_that_say_so_at_once_do_not_wait_for_each_other(kept: Kept):
    await kept.endpoint()
    await kept.happens(*range(6))
    claimed = await kept.claim()
    said = await asyncio.gather(*(kept.report(each, Told.GONE) for each in (claimed[-1], *claimed[:-1])))
    assert said.count(Fate.GONE) == 1
    assert await kept.deliveries.waiting(9) == 0


async def test_deliveries_go_with_their_endpoint_and_with_their_event(kept: Kept):
    endpoint, other = await kept.endpoint(1), await kept.endpoint(2)
    await kept.happens(1)
    await kept.happens(2, at_s=NOW + 9)
    mine = next(each for each in await kept.claim() if each.endpoint_id == endpoint.id)
    assert await kept.endpoints.remove(ACME, endpoint.id)
    assert await kept.report(mine, Told.FAILED) is None
    assert [each.event_id for each in await kept.deliveries.latest(other.id, 9)] == ["evt_2", "evt_1"]
    assert await kept.deliveries.latest(endpoint.id, 9) == []
    await kept.events.forget(NOW + 1)
    assert [each.event_id for each in await kept.deliveries.latest(other.id, 9)] == ["evt_2"]


async def test_an_endpoint_that_is_removed_while_something_happens_leaves_nothing_behind(kept: Kept):
    endpoint = await kept.endpoint()
    await asyncio.gather(*(kept.happens(number) for number in range(5)), kept.endpoints.remove(ACME, endpoint.id))
    assert await kept.deliveries.waiting(9) == 0


async def test_the_list_and_the_count_are_bounded(kept: Kept):
    endpoint = await kept.endpoint()
    for number in range(4):
        await kept.happens(number, at_s=NOW + number)
    assert [each.event_id for each in await kept.deliveries.latest(endpoint.id, 2)] == ["evt_3", "evt_2"]
    assert (await kept.deliveries.waiting(3), await kept.deliveries.waiting(9)) == (3, 4)
