"""A ledger that goes away and comes back: who is admitted meanwhile, and what it knows afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from libs.clients.limiter import Decision, LimiterClient, Reservation, Settlement
from libs.clock import SystemClock
from libs.errors import Unavailable
from libs.ids import JobId, KeyId, TenantId
from libs.testing import waiting
from libs.testing.clock import ManualClock
from libs.testing.limiter import LimiterProcess
from libs.testing.redis import RedisServer
from services.ratelimiter.settings import Settings
from tests.integration.services.ratelimiter.conftest import Start

DEGRADED = ("x-ratelimit-degraded", "1")
TENANT = TenantId("acme")
_BACK_S = 30.0
# So slow that nothing drains while a test runs.
_TIER = """
[{tier}]
requests_per_minute = 60
requests_burst = 60
units_per_minute = 1
units_burst = 1000
daily_images = 100
outage_share = {share}
outage_minutes = 5
"""
TIERS = "".join(
    _TIER.format(tier=tier, share=0 if tier == "anonymous" else 0.5)
    for tier in ("enterprise", "pro", "payg", "free", "anonymous")
)


def reservation(name: str, units: float = 100.0, tier: str = "pro") -> Reservation:
    return Reservation(JobId(name), TENANT, tier, units, images=1)


def settlement(name: str, charged: float) -> Settlement:
    return Settlement(
        JobId(name),
        TENANT,
        "pro",
        KeyId(""),
        reserved_units=100.0,
        actual_units=charged,
        charged_units=charged,
        images=1,
        model_version="tiny@1",
        outcome="succeeded",
        gpu_ms=charged,
        reserved_images=1,
    )


def is_degraded(decision: Decision) -> bool:
    return DEGRADED in decision.headers


@dataclass(frozen=True, slots=True)
class Site:
    """A rate limiter and its Redis."""

    redis: RedisServer
    limiter: LimiterClient

    async def until_back(self) -> Decision:
        """Wait until the ledger decides again; return what it says of the tenant."""
        return await until_back(self.limiter)


async def until_back(limiter: LimiterClient) -> Decision:
    async def is_back() -> bool:
        return not is_degraded(await limiter.peek(reservation("any", 0.0)))

    await waiting.until(is_back, _BACK_S)
    return await limiter.peek(reservation("any", 0.0))


@pytest.fixture
def clock() -> ManualClock:
    return SystemClock()  # type: ignore[return-value]  # Redis has the time of day


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@pytest.fixture
def settings(settings: Settings, redis: RedisServer, tmp_path: Path) -> Settings:
    (tmp_path / "tiers.toml").write_text(TIERS)
    return replace(settings, redis=redis.url, redis_deadline_s=10.0)


@pytest.fixture
async def site(redis: RedisServer, start: Start) -> AsyncIterator[Site]:
    async with start() as service:
        yield Site(redis, service.limiter)


async def test_while_redis_is_away_a_share_is_granted_and_told_to_it_later(site: Site):
    for name in ("before", "open"):
        await site.limiter.reserve(reservation(name))
        await site.limiter.confirm(reservation(name))
    await site.redis.kill()
    decisions = [await site.limiter.reserve(reservation(f"out_{n}")) for n in range(6)]
    assert all(is_degraded(decision) for decision in decisions)
    assert [decision.denial is None for decision in decisions] == [True] * 5 + [False]  # half of 1000 units
    await site.limiter.confirm(reservation("out_0"))
    assert await site.limiter.settle(settlement("before", charged=10.0))
    assert not await site.limiter.settle(settlement("before", charged=10.0))
    await site.limiter.confirm(reservation("out_1"))
    assert await site.limiter.settle(settlement("out_1", charged=20.0))
    assert await site.limiter.release(TENANT, JobId("out_2"))
    await site.redis.start()
    # open 100, before 10, out_0 100, out_1 20; out_3 and out_4 wait to be confirmed
    assert (await site.until_back()).available_units == pytest.approx(1000 - 430, abs=5)
    assert not await site.limiter.settle(settlement("out_1", charged=20.0))
    assert await site.limiter.settle(settlement("open", charged=50.0))
    assert await site.limiter.release(TENANT, JobId("out_3"))
    assert (await site.limiter.peek(reservation("any", 0.0))).available_units == pytest.approx(1000 - 280, abs=5)


async def test_a_tier_without_a_share_and_what_is_more_than_it_are_told_to_come_again(site: Site):
    await site.redis.kill()
    for asked in (reservation("none", tier="anonymous"), reservation("more", units=900.0)):
        with pytest.raises(Unavailable) as caught:
            await site.limiter.reserve(asked)
        assert caught.value.reason == "LIMITER_DEGRADED"
        assert "Nothing was charged" in caught.value.message
    seen = await site.limiter.peek(reservation("none", tier="anonymous"))
    assert is_degraded(seen)


async def test_redis_that_was_emptied_knows_the_day_again_before_anybody_is_served(site: Site):
    for n in range(3):
        await site.limiter.reserve(reservation(f"job_{n}"))
        await site.limiter.confirm(reservation(f"job_{n}"))
    for n in range(2):
        await site.limiter.settle(settlement(f"job_{n}", charged=40.0))
    await site.redis.kill()
    site.redis.forget()
    await site.redis.start()
    told = await site.until_back()
    assert told.available_units == pytest.approx(1000 - 80, abs=5)
    assert told.available_images == 100 - 2
    await site.limiter.confirm(reservation("job_2"))  # as a renewal that does not find it asks for
    told = await site.limiter.peek(reservation("any", 0.0))
    assert (told.available_images, round(told.available_units)) == (100 - 3, 820)
    assert await site.limiter.settle(settlement("job_2", charged=40.0))
    assert (await site.limiter.peek(reservation("any", 0.0))).available_units == pytest.approx(1000 - 120, abs=5)


async def test_it_starts_without_redis_and_finds_it_later(redis: RedisServer, start: Start):
    await redis.kill()
    async with start() as service:
        assert is_degraded(await service.limiter.reserve(reservation("job")))
        await redis.start()
        assert (await until_back(service.limiter)).available_units == pytest.approx(900, abs=5)


@pytest.mark.slow
async def test_what_a_killed_limiter_answered_alone_is_told_by_its_successor(redis: RedisServer, tmp_path: Path):
    tiers = tmp_path / "tiers.toml"
    tiers.write_text(TIERS)
    limiter = LimiterProcess(tmp_path, "limiter", redis.url, tiers)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(limiter.kill)
        await limiter.start()
        await limiter.client.reserve(reservation("before"))
        await limiter.client.confirm(reservation("before"))
        await redis.kill()
        assert is_degraded(await limiter.client.reserve(reservation("out")))
        await limiter.client.confirm(reservation("out"))
        assert await limiter.client.settle(settlement("before", charged=10.0))
        await limiter.kill()
        await limiter.start()  # Redis is still away: what was granted counts on
        assert (await limiter.client.peek(reservation("any", 0.0))).available_units == pytest.approx(400, abs=5)
        await limiter.kill()
        await redis.start()
        await limiter.start()
        told = await limiter.client.peek(reservation("any", 0.0))
        assert not is_degraded(told)
        assert told.available_units == pytest.approx(1000 - 110, abs=5)
        assert await limiter.client.settle(settlement("out", charged=30.0))
        await limiter.kill()  # between a settlement and its repetition
        await limiter.start()
        assert not await limiter.client.settle(settlement("out", charged=30.0))
        told = await limiter.client.peek(reservation("any", 0.0))
        assert told.available_units == pytest.approx(1000 - 40, abs=5)
