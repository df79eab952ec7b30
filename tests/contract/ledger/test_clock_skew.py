"""Clocks of machines are put forward and back: what is standing still then gives nothing away and takes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.ids import JobId, TenantId
from services.ratelimiter.balances import days
from services.ratelimiter.balances.causes import Cause, Charge
from services.ratelimiter.balances.days import DAY_S, Day
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.reservation import Hold, Step
from tests.contract.ledger.conftest import LIMITS, Desk, hold

HOUR_S = 3600.0


async def is_taken(desk: Desk, name: str, units: float = 1.0, images: int = 2) -> bool:
    """Reserve; what is taken is confirmed, so that no sweep gives it back."""
    asked = hold(name, units, images=images)
    outcome = await desk.reserve(asked)
    if outcome.denial is None:
        await desk.step(Step.CONFIRM, asked)
    return outcome.denial is None


async def sweep(desk: Desk) -> None:
    """Do what the process does every second."""
    for each in await desk.ledger.unconfirmed(60.0):
        await desk.step(Step.EXPIRE, each)
    await desk.ledger.forget(600.0)


def to_midnight(desk: Desk, seconds: float) -> None:
    """Put the clock to so many seconds before the next midnight."""
    desk.clock.put(DAY_S - desk.clock.now() % DAY_S - seconds)


@pytest.mark.parametrize("put_s", [-HOUR_S, -0.5])
async def test_a_clock_put_back_gives_nothing_and_takes_nothing(desk: Desk, put_s: float):
    assert await is_taken(desk, "before", 600)
    desk.clock.put(put_s)
    await sweep(desk)
    assert not await is_taken(desk, "too_much", 401)
    assert await is_taken(desk, "rest", 400)
    desk.clock.put(-put_s)
    await sweep(desk)
    assert not await is_taken(desk, "still_too_much", 1)
    await desk.clock.advance(6)
    assert await is_taken(desk, "drained", 100)
    assert not await is_taken(desk, "drained_no_more", 1)


async def test_seconds_that_come_twice_drain_once(desk: Desk):
    assert await is_taken(desk, "full", 1000)
    for turn in range(3):
        desk.clock.put(30)
        assert await is_taken(desk, f"drained_{turn}", 500) == (turn == 0)
        desk.clock.put(-30)
        assert not await is_taken(desk, f"twice_{turn}", 1)


async def test_a_clock_put_forward_for_a_moment_makes_nothing_be_forgotten(desk: Desk):
    desk.limits = replace(LIMITS, daily_images=4)
    assert await is_taken(desk, "runs", images=4)
    desk.clock.put(2 * DAY_S)
    await sweep(desk)
    desk.clock.put(-2 * DAY_S)
    await assert_day_is_used(desk)
    assert not (await desk.reserve(hold("runs", 1.0, images=4))).applied


async def test_days_that_come_twice_are_one(desk: Desk):
    desk.limits = replace(LIMITS, daily_images=4)
    assert await is_taken(desk, "runs", images=4)
    desk.clock.put(-2 * DAY_S)
    await desk.clock.advance(DAY_S + HOUR_S)
    await sweep(desk)
    await assert_day_is_used(desk)


async def assert_day_is_used(desk: Desk) -> None:
    denial = (await desk.reserve(hold("more", images=1))).denial
    assert denial is not None
    assert denial.dimension is Dimension.DAILY_IMAGES


async def test_what_comes_back_after_the_clock_was_put_back_is_taken_once(desk: Desk):
    await desk.reserve(hold("late"))
    await desk.step(Step.RELEASE, hold("late"))
    desk.clock.put(-HOUR_S)
    await desk.step(Step.CONFIRM, hold("late"))
    balance = await desk.balance()
    assert (balance.requests.used, balance.units.used) == (1, 100)


async def test_a_scheduler_whose_clock_is_fast_begins_no_day(desk: Desk):
    today = days.number_of(desk.clock.now())
    await desk.step(Step.CONFIRM, hold("forgotten"), reserved_s=desk.clock.now() + DAY_S)
    assert (await desk.balance()).day == Day(today, images=2, units=100.0)


async def test_a_day_that_was_reached_counts_though_the_clock_is_put_back_before_it(desk: Desk):
    desk.limits = replace(LIMITS, daily_images=4)
    to_midnight(desk, 1)
    assert await is_taken(desk, "yesterday", images=4)
    desk.clock.put(2)
    assert await is_taken(desk, "today")
    desk.clock.put(-2)
    assert await is_taken(desk, "between")
    assert not await is_taken(desk, "beyond", images=1)
    await desk.step(Step.SETTLE, hold("between", 1.0), Charge(0, Cause.PLATFORM))
    await desk.clock.advance(2)
    assert (await desk.balance()).day.images == 2
    assert await is_taken(desk, "given_back")
    assert not await is_taken(desk, "beyond_again", images=1)


async def test_whoever_comes_with_others_into_a_day_early_is_counted_in_it_once(desk: Desk):
    """Two cookies behind one address: the second never saw the clock that was fast, its address did."""
    desk.limits = replace(LIMITS, daily_images=4, address_daily_images=6)
    to_midnight(desk, 1)
    early, late = [
        replace(hold(f"job_{name}", 1.0), tenant_id=TenantId(name), address="net") for name in ("one", "two")
    ]
    desk.clock.put(2)
    await desk.reserve(early)
    desk.clock.put(-2)
    await desk.reserve(late)
    await desk.clock.advance(2)
    assert await counted(desk, late) == (2, 4)
    await desk.reserve(replace(late, reservation_id=JobId("job_more")))
    await desk.step(Step.SETTLE, late, Charge(0, Cause.PLATFORM))
    assert await counted(desk, late) == (2, 4)


async def counted(desk: Desk, of: Hold) -> tuple[int, int]:
    """Return the pictures of the day of a tenant and of its address."""
    own, address = [await desk.balance(of, account) for account in (0, 1)]
    return own.day.images, address.day.images


async def test_what_nobody_confirmed_is_named_whatever_the_clock_said_before(desk: Desk):
    desk.clock.put(HOUR_S)
    await desk.reserve(hold("fast"))
    desk.clock.put(-HOUR_S)
    await desk.reserve(hold("first"))
    await desk.clock.advance(1)
    await desk.reserve(hold("second"))
    await desk.clock.advance(60)
    assert await desk.ledger.unconfirmed(30.0) == [hold("first"), hold("second")]
    await desk.clock.advance(HOUR_S)
    assert await desk.ledger.unconfirmed(30.0) == [hold("first"), hold("second"), hold("fast")]


async def test_what_a_dead_gateway_left_is_given_back_in_time_though_the_clock_was_fast_before(desk: Desk):
    desk.clock.put(30 * DAY_S)
    assert await is_taken(desk, "fast", 1.0)
    desk.clock.put(-30 * DAY_S)
    left = [hold("left_first"), hold("left_second")]
    for each in left:
        await desk.clock.advance(1)
        await desk.reserve(each)
    assert (await desk.balance()).day.images == 6
    await desk.clock.advance(60)
    assert await desk.ledger.unconfirmed(60.0) == left[:1]
    await desk.clock.advance(1)
    assert await desk.ledger.unconfirmed(60.0) == left
    await sweep(desk)
    assert await desk.ledger.unconfirmed(60.0) == []
    assert (await desk.balance()).day.images == 2


async def test_a_place_is_due_and_units_drain_from_when_they_were_taken_though_another_account_is_days_ahead(
    desk: Desk,
):
    """The other account is that of an address: who comes after it never saw the clock that was fast."""
    desk.limits = replace(LIMITS, address_daily_images=10, in_flight_images=4)
    early, late = [
        replace(hold(f"job_{name}", 600.0), tenant_id=TenantId(name), address="net") for name in ("one", "two")
    ]
    desk.clock.put(30 * DAY_S)
    await desk.reserve(early)
    desk.clock.put(-30 * DAY_S)
    await desk.reserve(late)
    (lease,) = (await desk.balance(late)).leases
    assert lease.due_s == desk.clock.now() + 0.6
    more = replace(late, reservation_id=JobId("job_more"), units=300.0)
    await desk.reserve(more)
    await desk.clock.advance(30)
    await desk.step(Step.SETTLE, late, Charge(0, Cause.CANCELLED))
    assert (await desk.balance(late)).units.used == pytest.approx(300.0)
