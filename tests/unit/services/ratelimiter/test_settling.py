"""What follows from the end of a job: by whose fault, in the minute and in the day; and what credit there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.causes import BLOCK_UNITS, FREE_BLOCKS, Cause
from services.ratelimiter.balances.refusal import Denial, Dimension
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.usage.book import Settlement

TENANT = TenantId("t")


def hold(name: str = "job_1", units: float = 100.0, images: int = 4, **more: int) -> Hold:
    return Hold(JobId(name), TENANT, "pro", units, images, **more)  # type: ignore[arg-type]


def ended(of: Hold, cause: Cause, units: float = 0.0, delivered: int = 0) -> Settlement:
    return Settlement(of, KeyId(""), "tiny@1", "failed", units, units, gpu_ms=units, images=delivered, cause=cause)


async def left(bench) -> tuple[float, int]:
    """Return the units of the minute and the pictures of the day that are left."""
    decision = await bench.limiter.peek(hold("", units=0, images=0))
    return decision.available_units, int(dict(decision.headers)["x-ratelimit-remaining-daily"])


@pytest.fixture
def daily(bench):
    bench.limits = replace(bench.limits, daily_images=20, in_flight_images=8, max_pixels=1_000_000, max_steps=50)
    bench.restart()
    return bench


@pytest.mark.parametrize(
    ("cause", "units", "delivered", "units_left", "images_left"),
    [
        (Cause.SUCCEEDED, 140, 4, 860, 16),
        (Cause.CACHED, 0, 0, 1000, 20),
        (Cause.JOINED, 0, 0, 1000, 16),
        (Cause.WITHDRAWN, 0, 0, 1000, 20),
        (Cause.CANCELLED, 30, 0, 970, 16),
        (Cause.EXPIRED, 0, 0, 1000, 20),
        (Cause.PLATFORM, 0, 0, 1000, 20),
        (Cause.PARTLY, 50, 2, 950, 18),
        (Cause.PROMPT_BLOCKED, 0, 0, 1000, 16),
        (Cause.OUTPUT_BLOCKED, 90, 0, 910, 16),
    ],
)
async def test_each_cause_of_the_table(daily, cause, units, delivered, units_left, images_left):
    await daily.limiter.reserve(hold())
    await daily.limiter.settle(ended(hold(), cause, units, delivered))
    assert await left(daily) == (units_left, images_left)
    daily.restart()
    await daily.rebuild()
    assert await left(daily) == (units_left, images_left)


async def test_refused_prompts_cost_a_little_from_the_fourth_of_a_day_on(daily):
    daily.limits = replace(daily.limits, units=replace(daily.limits.units, burst=5000.0))
    daily.restart()
    for number in range(FREE_BLOCKS + 1):
        one = hold(f"job_{number}", images=1)
        await daily.limiter.reserve(one)
        await daily.limiter.settle(ended(one, Cause.PROMPT_BLOCKED))
        assert (await left(daily))[0] == 5000 - (BLOCK_UNITS if number == FREE_BLOCKS else 0)
    assert all(row.settlement.charged_units == 0 for row in daily.usage.rows.values())  # never billed


@pytest.mark.parametrize("cause", [Cause.WITHDRAWN, Cause.EXPIRED, Cause.JOINED, Cause.CACHED])
async def test_who_ends_a_job_late_gets_back_what_has_not_drained(daily, cause):
    await daily.limiter.reserve(hold("decoy", units=1000, images=1))
    await daily.clock.advance(59.4)  # all but ten units have drained
    await daily.limiter.reserve(hold("real", units=990, images=1))
    assert (await left(daily))[0] < 0.01
    await daily.limiter.settle(ended(hold("decoy", units=1000, images=1), cause))
    assert (await left(daily))[0] == pytest.approx(10)


async def test_what_is_our_fault_is_given_back_however_late(daily):
    await daily.limiter.reserve(hold("lost", units=1000, images=1))
    await daily.clock.advance(59.4)
    await daily.limiter.reserve(hold("real", units=990, images=1))
    await daily.limiter.settle(ended(hold("lost", units=1000, images=1), Cause.PLATFORM))
    assert (await left(daily))[0] == pytest.approx(1000)


async def test_the_last_job_of_a_burst_borrows_half_and_the_next_waits_for_the_debt(daily):
    daily.limits = replace(daily.limits, borrows=True)
    daily.restart()
    await daily.limiter.reserve(hold("job_1", units=800, images=1))
    too_much = (await daily.limiter.reserve(hold("job_2", units=401, images=1))).denial
    assert too_much is not None
    assert too_much.retry_after_s == pytest.approx(0.03)
    assert (await daily.limiter.reserve(hold("job_3", units=400, images=1))).denial is None
    small = (await daily.limiter.reserve(hold("job_4", units=10, images=1))).denial
    assert small is not None
    assert small.retry_after_s == pytest.approx(12.3)


async def refused(bench, of: Hold) -> Denial:
    denial = (await bench.limiter.reserve(of)).denial
    assert denial is not None
    return denial


async def test_what_a_tier_never_draws_is_told_by_its_kind(daily):
    for asked, about, limit in (
        (hold(pixels=1_000_001), "pixels", 1_000_000),
        (hold(steps=51), "steps", 50),
        (hold(images=9), "in_flight", 8),
        (hold(units=1001), "units", 1000),
    ):
        denial = await refused(daily, asked)
        assert (denial.dimension, denial.about, denial.limit) == (Dimension.TIER, about, limit)
        assert denial.retry_after_s == 0
    assert await left(daily) == (1000, 20)


async def test_the_day_is_the_limit_that_frees_last(daily):
    for number in range(5):
        one = hold(f"job_{number}")
        await daily.limiter.reserve(one)
        await daily.limiter.settle(ended(one, Cause.SUCCEEDED, 100, 4))
    denial = await refused(daily, hold("late", units=900))  # of the minute there is too little, too
    midnight_s = 86_400 - daily.clock.now() % 86_400
    assert (denial.dimension, denial.available) == (Dimension.DAILY_IMAGES, 0)
    assert denial.retry_after_s == pytest.approx(midnight_s)
    await daily.clock.advance(midnight_s)
    assert (await daily.limiter.reserve(hold("late", units=900))).denial is None


async def test_yesterdays_job_gives_nothing_back_to_today(daily):
    await daily.clock.advance(86_400 - daily.clock.now() % 86_400 - 1)
    await daily.limiter.reserve(hold("late"))
    await daily.clock.advance(2)
    await daily.limiter.reserve(hold("today", images=1))
    await daily.limiter.settle(ended(hold("late"), Cause.PLATFORM))
    assert (await left(daily))[1] == 19


async def test_an_open_job_that_was_forgotten_is_taken_as_of_its_beginning(daily):
    began_s = daily.clock.now()
    await daily.limiter.reserve(hold("open", units=600))
    await daily.clock.advance(30)
    daily.restart()
    assert await daily.limiter.renew([hold("open")]) == ["open"]
    await daily.limiter.confirm(hold("open", units=600), began_s)
    assert await left(daily) == (pytest.approx(900), 16)
    assert await daily.limiter.renew([hold("open")]) == []
