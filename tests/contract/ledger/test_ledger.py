"""What every ledger promises; the arithmetic itself is tested with `booking`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from libs.ids import JobId, TenantId
from services.ratelimiter.balances import booking
from services.ratelimiter.balances.balance import Amount, Balance
from services.ratelimiter.balances.booking import Touched
from services.ratelimiter.balances.causes import Cause, Charge
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.reservation import Hold, State, Step
from tests.contract.ledger.conftest import LIMITS, TENANT, Desk, hold


async def used(desk: Desk, tenant: TenantId = TENANT) -> tuple[float, float]:
    balance = await desk.balance(hold("", tenant=tenant))
    return balance.requests.used, balance.units.used


async def test_concurrent_reservations_never_overspend(desk: Desk):
    outcomes = await asyncio.gather(*(desk.reserve(hold(f"job_{n}")) for n in range(100)))
    assert sum(outcome.denial is None for outcome in outcomes) == 10
    assert await used(desk) == (10, 1000)


async def test_one_reservation_asked_for_at_once_many_times_is_taken_once(desk: Desk):
    outcomes = await asyncio.gather(*(desk.reserve(hold("job_1")) for _ in range(20)))
    assert all(outcome.denial is None for outcome in outcomes)
    assert sum(outcome.applied for outcome in outcomes) == 1
    assert await used(desk) == (1, 100)


async def test_a_denial_leaves_nothing_behind(desk: Desk):
    before = await desk.reserve(hold("job_1", units=950))
    denied = await desk.reserve(hold("job_2"))
    assert denied.denial is not None
    assert denied.booking.balances == before.booking.balances
    assert await desk.balance() == next(iter(before.booking.balances.values()))
    assert await desk.find("job_2") is None


async def test_concurrent_settlements_move_the_balance_once(desk: Desk):
    await desk.reserve(hold("job_1"))
    settle = (desk.step(Step.SETTLE, hold("job_1"), Charge(30)) for _ in range(20))
    assert sorted(outcome.applied for outcome in await asyncio.gather(*settle)) == [False] * 19 + [True]
    assert await used(desk) == (1, 30)
    found = await desk.find("job_1")
    assert found is not None
    assert (found.state, found.charged_units, found.hold) == (State.SETTLED, 30, hold("job_1"))
    assert found.reserved_s == desk.clock.now()


async def test_a_forgotten_reservation_is_applied_from_what_the_call_carries(desk: Desk):
    assert (await desk.step(Step.CONFIRM, hold("job_1"))).applied
    assert (await desk.step(Step.SETTLE, hold("job_2", units=500), Charge(70))).applied
    assert not (await desk.step(Step.RELEASE, hold("job_3"))).applied
    assert await used(desk) == (1, 170)


async def test_the_same_id_of_two_tenants_is_two_reservations(desk: Desk):
    other = TenantId("other")
    await desk.reserve(hold("job_1"))
    await desk.reserve(hold("job_1", tenant=other))
    await desk.step(Step.RELEASE, hold("job_1", tenant=other))
    assert (await used(desk), await used(desk, other)) == ((1, 100), (0, 0))


async def test_unconfirmed_names_what_is_tentative_and_old_enough(desk: Desk):
    for name, pause_s in (("oldest", 10), ("confirmed", 10), ("old", 9), ("young", 1)):
        await desk.reserve(hold(name))
        await desk.clock.advance(pause_s)
    await desk.step(Step.CONFIRM, hold("confirmed"))
    assert await desk.ledger.unconfirmed(5) == [hold("oldest"), hold("old")]


async def test_earlier_spending_can_be_put_back(desk: Desk):
    scopes, at_s = desk.scopes(hold("")), desk.clock.now()
    for amount, ago_s in ((Amount(3, 600, 4, 600), 6), (Amount(0, 50), 0)):
        moment_s = at_s - ago_s
        await desk.ledger.transact(
            Touched(TENANT, (scopes[0].account,)),
            lambda held, now_s, amount=amount, moment_s=moment_s: booking.put_back(
                held, scopes, amount, moment_s, now_s
            ),
        )
    balance = await desk.balance()
    assert (balance.requests.used, round(balance.units.used, 6), balance.day.images) == (0, 550, 4)


async def test_forgetting_drops_what_is_over_and_empty_and_nothing_else(desk: Desk):
    await desk.reserve(hold("done"))
    await desk.clock.advance(1)
    await desk.step(Step.SETTLE, hold("done"), Charge(100))
    await desk.reserve(hold("runs"))
    await desk.step(Step.CONFIRM, hold("runs"))
    await desk.ledger.forget(age_s=1)
    assert await desk.find("done") is not None
    await desk.clock.advance(3600)
    await desk.ledger.forget(age_s=1)
    assert await desk.find("done") is None
    assert (await desk.balance()).day.images == 4  # the day is not over
    await desk.clock.advance(86_400)
    await desk.ledger.forget(age_s=1)
    assert await desk.balance() == Balance()
    found = await desk.find("runs")
    assert found is not None
    assert found.state is State.CONFIRMED


async def test_a_place_is_kept_by_renewal_and_free_when_nobody_renews(desk: Desk):
    desk.limits = replace(LIMITS, in_flight_images=4)
    for name in ("job_1", "job_2"):
        await desk.reserve(hold(name))
        await desk.step(Step.CONFIRM, hold(name))
    denial = (await desk.reserve(hold("job_3"))).denial
    assert denial is not None
    assert denial.dimension is Dimension.IN_FLIGHT
    await desk.clock.advance(100)
    assert await desk.renew(hold("job_1")) == ()
    await desk.clock.advance(30)  # job_2 was last heard of 130 s ago
    assert (await desk.reserve(hold("job_3"))).denial is None
    assert (await desk.reserve(hold("job_4"))).denial is not None
    assert await desk.renew(hold("job_2")) == ()  # it is open all the same: nothing is taken from it
    assert sum(lease.images for lease in (await desk.balance()).leases) == 6


async def test_a_renewal_names_what_does_not_stand_here(desk: Desk):
    desk.limits = replace(LIMITS, in_flight_images=4)
    for name in ("stands", "settled", "released"):
        await desk.reserve(hold(name, images=1))
    await desk.step(Step.SETTLE, hold("settled"), Charge(1))
    await desk.step(Step.RELEASE, hold("released"))
    assert await desk.renew(*map(hold, ("stands", "settled", "released", "never"))) == ("released", "never")
    assert [lease.reservation_id for lease in (await desk.balance()).leases] == ["stands"]


async def test_all_accounts_of_a_reservation_move_together_or_not_at_all(desk: Desk):
    desk.limits = replace(LIMITS, daily_images=50, address_daily_images=3)
    at_home = [
        Hold(JobId(f"job_{n}"), TenantId(f"cookie_{n}"), "pro", 10.0, images=2, address="203.0.113.7") for n in range(3)
    ]
    await desk.reserve(at_home[0])
    denial = (await desk.reserve(at_home[1])).denial
    assert denial is not None
    assert (denial.dimension, denial.about, denial.available) == (Dimension.ADDRESS, "daily_images", 1)
    assert await desk.balance(at_home[1]) == Balance()  # its own account was not touched
    await desk.step(Step.SETTLE, at_home[0], Charge(0, Cause.PLATFORM))
    assert (await desk.balance(at_home[0], account=1)).day.images == 0
    outcomes = await asyncio.gather(*(desk.reserve(each) for each in at_home[1:]))
    assert sorted(outcome.denial is None for outcome in outcomes) == [False, True]
