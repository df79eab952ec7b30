"""Changes of several callers at once: as if one had come after the other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from libs.ids import JobId, TenantId
from services.ratelimiter.balances import booking
from services.ratelimiter.balances.booking import Booking, Move, Outcome, Touched
from services.ratelimiter.balances.reservation import Hold, Step
from services.ratelimiter.ledgers.ledger import Change
from tests.contract.ledger.conftest import LIMITS, Desk, hold


@pytest.fixture(autouse=True)
def limited(desk: Desk) -> None:
    desk.limits = replace(LIMITS, in_flight_images=10, daily_images=50, address_daily_images=10)


def taking(desk: Desk, *holds: Hold) -> list[tuple[Touched, Change]]:
    moves = [Move(Step.RESERVE, each, desk.scopes(each)) for each in holds]
    return [(move.touched, partial(_apply, move)) for move in moves]


def renewing(desk: Desk, *holds: Hold) -> list[tuple[Touched, Change]]:
    moves = [Move(Step.CONFIRM, each, desk.scopes(each)) for each in holds]
    return [(move.touched, partial(_renew, move)) for move in moves]


def _apply(move: Move, held: Booking, now_s: float) -> Outcome:
    return booking.apply(held, move, now_s)


def _renew(move: Move, held: Booking, now_s: float) -> Outcome:
    return booking.renew(held, move.touched, move.scopes, booking.LEASE_S, now_s)


def of(number: int, images: int = 2, address: str = "") -> Hold:
    return replace(hold(f"job_{number}", tenant=TenantId(f"tenant_{number}"), images=images), address=address)


async def test_each_callers_places_are_kept_and_what_does_not_stand_is_named(desk: Desk):
    open_ = [of(number) for number in range(5)]
    for each in open_[:3]:
        await desk.reserve(each)
        await desk.step(Step.CONFIRM, each)
    await desk.clock.advance(100)
    outcomes = await desk.ledger.transact_all(renewing(desk, *open_))
    assert [name for outcome in outcomes for name in outcome.unknown] == ["job_3", "job_4"]
    await desk.clock.advance(100)
    for each in open_[:3]:
        (lease,) = (await desk.balance(each)).leases
        assert lease.until_s == desk.clock.now() - 100 + booking.LEASE_S
    assert await desk.balance(open_[3]) == await desk.balance(of(9))


async def test_callers_who_share_an_account_are_counted_in_it_one_after_the_other(desk: Desk):
    at_home = [of(number, images=4, address="203.0.113.7") for number in range(3)]
    outcomes = await desk.ledger.transact_all(taking(desk, *at_home))
    assert [outcome.denial is None for outcome in outcomes] == [True, True, False]
    assert (await desk.balance(at_home[0], account=1)).day.images == 8
    assert (await desk.balance(at_home[2])).day.images == 0


async def test_nothing_to_do_changes_nothing(desk: Desk):
    assert await desk.ledger.transact_all([]) == []
    outcomes = await desk.ledger.transact_all(renewing(desk, of(1), of(2)))
    assert [outcome.applied for outcome in outcomes] == [False, False]
    assert await desk.find(JobId("job_1"), TenantId("tenant_1")) is None
