"""What every ledger promises; the arithmetic itself is tested with `booking`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from libs.ids import JobId, TenantId
from services.ratelimiter.balance import Amount, Balance
from services.ratelimiter.bucket import Rate
from services.ratelimiter.ledger import Ledger
from services.ratelimiter.memory_ledger import MemoryLedger
from services.ratelimiter.policy import Limits
from services.ratelimiter.reservation import Hold, State, Step

NOW_S = 1_700_000_000.0
LIMITS = Limits("pro", requests=Rate(600, 300), units=Rate(1000, 1000))
TENANT = TenantId("t")
ADAPTERS: dict[str, Callable[[], Ledger]] = {"memory": MemoryLedger}


@pytest.fixture(params=ADAPTERS)
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return ADAPTERS[request.param]()


def hold(name: str, units: float = 100.0, tenant: TenantId = TENANT) -> Hold:
    return Hold(JobId(name), tenant, "pro", units, images=2)


async def used(ledger: Ledger, tenant: TenantId = TENANT) -> tuple[float, float]:
    balance = await ledger.balance(tenant)
    return balance.requests.used, balance.units.used


async def test_concurrent_reservations_never_overspend(ledger: Ledger):
    verdicts = await asyncio.gather(*(ledger.reserve(hold(f"job_{n}"), LIMITS, NOW_S) for n in range(100)))
    assert sum(verdict.denial is None for verdict in verdicts) == 10
    assert await used(ledger) == (10, 1000)


async def test_one_reservation_asked_for_at_once_many_times_is_taken_once(ledger: Ledger):
    verdicts = await asyncio.gather(*(ledger.reserve(hold("job_1"), LIMITS, NOW_S) for _ in range(20)))
    assert all(verdict.denial is None for verdict in verdicts)
    assert await used(ledger) == (1, 100)


async def test_a_denial_leaves_nothing_behind(ledger: Ledger):
    before = await ledger.reserve(hold("job_1", units=950), LIMITS, NOW_S)
    denied = await ledger.reserve(hold("job_2"), LIMITS, NOW_S)
    assert denied.denial is not None
    assert denied.balance == before.balance == await ledger.balance(TENANT)
    assert await ledger.find(TENANT, JobId("job_2")) is None


async def test_concurrent_settlements_move_the_balance_once(ledger: Ledger):
    await ledger.reserve(hold("job_1"), LIMITS, NOW_S)
    settle = (ledger.advance(Step.SETTLE, hold("job_1"), LIMITS, NOW_S, 30) for _ in range(20))
    assert sorted(await asyncio.gather(*settle)) == [False] * 19 + [True]
    assert await used(ledger) == (1, 30)
    found = await ledger.find(TENANT, JobId("job_1"))
    assert found is not None
    assert (found.state, found.charged_units, found.hold, found.reserved_s) == (
        State.SETTLED,
        30,
        hold("job_1"),
        NOW_S,
    )


async def test_a_forgotten_reservation_is_applied_from_what_the_call_carries(ledger: Ledger):
    assert await ledger.advance(Step.CONFIRM, hold("job_1"), LIMITS, NOW_S)
    assert await ledger.advance(Step.SETTLE, hold("job_2", units=500), LIMITS, NOW_S, 70)
    assert not await ledger.advance(Step.RELEASE, hold("job_3"), LIMITS, NOW_S)
    assert await used(ledger) == (1, 170)


async def test_the_same_id_of_two_tenants_is_two_reservations(ledger: Ledger):
    other = TenantId("other")
    await ledger.reserve(hold("job_1"), LIMITS, NOW_S)
    await ledger.reserve(hold("job_1", tenant=other), LIMITS, NOW_S)
    await ledger.advance(Step.RELEASE, hold("job_1", tenant=other), LIMITS, NOW_S)
    assert (await used(ledger), await used(ledger, other)) == ((1, 100), (0, 0))


async def test_unconfirmed_names_what_is_tentative_and_old_enough(ledger: Ledger):
    for age_s, name in ((30, "oldest"), (20, "confirmed"), (10, "old"), (1, "young")):
        await ledger.reserve(hold(name), LIMITS, NOW_S - age_s)
    await ledger.advance(Step.CONFIRM, hold("confirmed"), LIMITS, NOW_S)
    assert await ledger.unconfirmed(NOW_S - 5) == [hold("oldest"), hold("old")]


async def test_earlier_spending_can_be_put_back(ledger: Ledger):
    await ledger.charge(TENANT, LIMITS, Amount(3, 600), NOW_S - 6)
    await ledger.charge(TENANT, LIMITS, Amount(0, 50), NOW_S)
    requests, units = await used(ledger)
    assert requests == 0
    assert units == pytest.approx(550)


async def test_forgetting_drops_what_is_over_and_drained_and_nothing_else(ledger: Ledger):
    await ledger.reserve(hold("done"), LIMITS, NOW_S)
    await ledger.advance(Step.SETTLE, hold("done"), LIMITS, NOW_S + 1, 100)
    await ledger.reserve(hold("runs"), LIMITS, NOW_S + 1)
    await ledger.advance(Step.CONFIRM, hold("runs"), LIMITS, NOW_S + 1)
    await ledger.forget(NOW_S + 1, NOW_S + 1)
    assert await ledger.find(TENANT, JobId("done")) is not None
    assert (await used(ledger))[1] > 0
    await ledger.forget(NOW_S + 2, NOW_S + 3600)
    assert await ledger.find(TENANT, JobId("done")) is None
    assert await ledger.balance(TENANT) == Balance()
    found = await ledger.find(TENANT, JobId("runs"))
    assert found is not None
    assert found.state is State.CONFIRMED
