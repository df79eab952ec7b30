"""The day of callers without a key: fifty pictures, however many cookies; an address gets 150 at most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.refusal import Denial, Dimension
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.strangers import ages
from services.ratelimiter.strangers.addresses import tenant_at
from services.ratelimiter.strangers.pseudonyms import Pseudonyms
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage.book import Settlement

HERE, DAY_S = "203.0.113.7", 86_400.0


class Strangers:
    """Callers without a key at one address, who wait for each picture and a little longer."""

    def __init__(self, limiter: Limiter, clock) -> None:
        self._limiter, self.clock, self._jobs = limiter, clock, 0

    def somebody(self, age_days: int = 0) -> TenantId:
        """Return a visitor whose cookie is so old."""
        return TenantId("anon:" + ages.new_id(self.clock.now() - age_days * DAY_S))

    async def draw(self, tenant_id: TenantId, address: str = HERE) -> Denial | None:
        """Ask for a picture that is drawn at once; returns what refused it."""
        self._jobs += 1
        hold = Hold(JobId(f"job_{self._jobs}"), tenant_id, policy.ANONYMOUS, 1.0, 1, address=address)
        denial = (await self._limiter.reserve(hold)).denial
        if denial is None:
            await self._limiter.settle(
                Settlement(hold, KeyId(""), "tiny@1", "succeeded", 1.0, 1.0, gpu_ms=1.0, images=1)
            )
        await self.clock.advance(12)
        return denial

    async def until_refused(self, *tenants: TenantId) -> tuple[int, Denial]:
        """Return how many pictures callers get who take turns, and what refused the next of one of them."""
        for count in range(1000):
            denial = await self.draw(tenants[count % len(tenants)])
            if denial is not None:
                return count, denial
        raise AssertionError("nothing refuses")

    async def until_refused_at(self, address: str) -> tuple[int, Denial]:
        """Return how many pictures those without a cookie at an address get, and what refused the next."""
        for count in range(1000):
            denial = await self.draw(tenant_at(address), address)
            if denial is not None:
                return count, denial
        raise AssertionError("nothing refuses")


@pytest.fixture
def strangers(bench) -> Strangers:
    return strangers_by(policy.SHIPPED.read_text(), bench)


def strangers_by(tiers: str, bench) -> Strangers:
    tariffs = Tariffs(policy.parse(tiers, "tiers.toml"))
    limiter = Limiter(tariffs, MemoryLedger(bench.clock), bench.usage, bench.clock, bench.meters)
    return Strangers(limiter, bench.clock)


async def test_without_a_cookie_the_51st_is_refused(strangers: Strangers):
    count, denial = await strangers.until_refused(tenant_at(HERE))
    assert (count, denial.limit) == (50, 50)


async def test_a_new_cookie_for_every_picture_wins_nothing(strangers: Strangers):
    count, denial = await strangers.until_refused(*(strangers.somebody() for _ in range(60)))
    assert (count, denial.dimension, denial.limit) == (50, Dimension.ADDRESS, 50)
    assert await strangers.draw(tenant_at(HERE)) is not None
    assert await strangers.draw(strangers.somebody(), "203.0.113.8") is None


async def test_known_visitors_have_a_day_each_up_to_the_ceiling_of_the_address(strangers: Strangers):
    alone, denial = await strangers.until_refused(strangers.somebody(age_days=1))
    assert (alone, denial.dimension) == (50, Dimension.DAILY_IMAGES)
    count, denial = await strangers.until_refused(*(strangers.somebody(age_days=2) for _ in range(10)))
    assert (alone + count, denial.dimension, denial.limit) == (150, Dimension.ADDRESS, 150)


async def test_a_known_visitor_is_not_touched_by_newcomers_of_the_address(strangers: Strangers):
    known = strangers.somebody(age_days=1)
    await strangers.until_refused(tenant_at(HERE))
    assert await strangers.draw(known) is None


async def test_the_refusal_says_when_the_day_is_over(strangers: Strangers):
    _, denial = await strangers.until_refused(tenant_at(HERE))
    await strangers.clock.advance(denial.retry_after_s)
    assert await strangers.draw(tenant_at(HERE)) is None


NARROW = policy.SHIPPED.read_text().replace("network_daily_images = 600", "network_daily_images = 160")
NAMES = Pseudonyms("a secret of the test")


async def test_whoever_has_a_whole_ipv6_network_gets_no_more_than_its_ceiling(bench):
    assert "network_daily_images = 160" in NARROW
    strangers, drawn = strangers_by(NARROW, bench), 0
    for number in range(4):
        address = NAMES.of(f"2001:db8:1:{number}::1")
        count, denial = await strangers.until_refused_at(address)
        drawn += count
    assert (drawn, denial.dimension, denial.limit) == (160, Dimension.ADDRESS, 160)
    assert count == 10, "the last of them had its own day, and the network's was used"
    elsewhere = NAMES.of("2001:db8:2::1")
    assert await strangers.draw(tenant_at(elsewhere), elsewhere) is None
    await strangers.clock.advance(denial.retry_after_s)
    assert await strangers.draw(tenant_at(address), address) is None


async def test_of_ipv4_only_the_address_has_a_ceiling(bench):
    strangers = strangers_by(NARROW, bench)
    for number in range(4):
        count, _ = await strangers.until_refused_at(NAMES.of(f"203.0.113.{number}"))
        assert count == 50


def test_without_a_number_of_its_own_a_network_has_four_times_that_of_an_address():
    limits = policy.parse(NARROW.replace("network_daily_images = 160", ""), "tiers.toml").of(policy.ANONYMOUS)
    assert (limits.address_daily_images, limits.network_images) == (150, 600)
    assert replace(limits, address_daily_images=None).network_images is None
