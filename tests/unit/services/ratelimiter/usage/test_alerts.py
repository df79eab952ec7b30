"""What tenants are told of their usage, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from libs.ids import TenantId
from services.ratelimiter.balances.days import number_of
from services.ratelimiter.tenants.events import TenantEvent
from services.ratelimiter.tenants.tenants import Tenant
from services.ratelimiter.tenants.wallets import Wallet
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage import alerts as usage_alerts
from services.ratelimiter.usage.alerting import Alerting
from services.ratelimiter.usage.alerts import Today
from services.ratelimiter.usage.reports import UsageQuery, UsageSum

ACME = TenantId("acme")
TODAY = Today(ACME, 19_675, images=0, units=0.0)
FREE = policy.load(policy.SHIPPED).of("free")  # 200 images, 3,000,000 units a day


@pytest.mark.parametrize(
    ("images", "units", "told"),
    [
        (99, 1_499_999, []),
        (100, 0, ["50 % of today's 200 images are used (100)"]),
        (160, 2_400_000, ["80 % of today's 200 images", "80 % of today's 3000000 units"]),
        (250, 0, ["100 % of today's 200 images are used (250)"]),
    ],
)
def test_of_each_limit_of_the_day_the_highest_share_is_told(images: int, units: float, told: list[str]):
    events = list(usage_alerts.of_day(replace(TODAY, images=images, units=units), FREE, 1.0))
    assert len(events) == len(told)
    assert all(event.message.startswith(text) for event, text in zip(events, told, strict=True))


def test_without_a_limit_nothing_is_told():
    unlimited = policy.overridden(FREE, {"daily_images": None, "daily_units": None})
    assert list(usage_alerts.of_day(replace(TODAY, images=10**6, units=1e12), unlimited, 1.0)) == []


@pytest.mark.parametrize(
    ("wallet", "told"),
    [
        (Wallet(ACME, 1_000_000), []),
        (Wallet(ACME, 600_000, spent_micros=400_000), []),
        (Wallet(ACME, 200_000, spent_micros=800_000), ["80 % of the money of this month are spent; 0.20 are left."]),
        (Wallet(ACME, -5, spent_micros=1_000_005), ["100 % of the money of this month are spent; 0.00 are left."]),
        (Wallet(ACME, 9_000_000, spent_micros=500_000, cap_micros=1_000_000), ["50 % of the cap of 1.00 a month"]),
    ],
)
def test_money_is_told_by_its_share(wallet: Wallet, told: list[str]):
    events = list(usage_alerts.of_money(wallet, 1_700_000_000.0))
    assert len(events) == len(told)
    assert all(event.message.startswith(text) for event, text in zip(events, told, strict=True))


@pytest.mark.parametrize(
    ("units", "before", "spikes"), [(299_999, 1e5, 0), (3.1e5, 1e5, 1), (9e4, 1e3, 0), (9e9, 0.0, 0)]
)
def test_a_spike_is_much_more_than_on_any_day_before(units: float, before: float, spikes: int):
    assert len(list(usage_alerts.of_spike(replace(TODAY, units=units), before, 1.0))) == spikes


def test_ids_differ_by_tenant_day_and_share_and_by_nothing_else():
    def ids(today: Today, now_s: float = 1.0) -> list[str]:
        return [event.id for event in usage_alerts.of_day(today, FREE, now_s)]

    half, most = replace(TODAY, images=100), replace(TODAY, images=160)
    assert ids(half) == ids(replace(half, images=120), now_s=2.0)
    others = [half, most, replace(half, day=1), replace(half, tenant_id=TenantId("other"))]
    assert len({one for today in others for one in ids(today)}) == 4


@dataclass
class Kept:
    """Usage by day and units, one tenant and its events."""

    units: dict[int, float]
    events: dict[str, TenantEvent] = field(default_factory=dict)

    async def read(self, query: UsageQuery) -> AsyncIterator[UsageSum]:
        for day, units in self.units.items():
            if (query.from_day or 0) <= day <= (query.to_day or day):
                yield UsageSum(day, "acme", None, None, 1, 1, 0, 0, 0, 1, 1.0, units, units, 0, 1.0)
                if not query.tenant_id:
                    yield UsageSum(day, "anon:1", None, None, 1, 1, 0, 0, 0, 10**6, 1.0, 1e12, 1e12, 0, 1.0)

    async def among(self, tenant_ids: Sequence[TenantId]) -> Sequence[Tenant]:
        return [Tenant(tenant_id, "free", 0.0) for tenant_id in tenant_ids]

    async def find(self, tenant_id: TenantId, now_s: float) -> Wallet:
        raise AssertionError("a free tenant has no wallet")

    async def add(self, events: Sequence[TenantEvent]) -> int:
        fresh = [event for event in events if event.id not in self.events]
        self.events.update((event.id, event) for event in fresh)
        return len(fresh)


async def test_each_thing_is_told_once_a_day_and_strangers_are_told_nothing(bench):
    day = number_of(bench.clock.now())
    kept = Kept({day: 1_600_000.0})
    tariffs = Tariffs(policy.load(policy.SHIPPED))
    alerting = Alerting(kept, kept, kept, kept, tariffs, bench.meters, bench.clock)  # type: ignore[arg-type]
    for _ in range(3):
        await alerting.look()
    assert [event.kind for event in kept.events.values()] == ["usage_threshold"]
    again = Alerting(kept, kept, kept, kept, tariffs, bench.meters, bench.clock)  # type: ignore[arg-type]
    await again.look()  # another replica
    assert {event.tenant_id for event in kept.events.values()} == {ACME}
    assert bench.counted("darkroom_tenant_events")[(("kind", "usage_threshold"),)] == 1
    kept.units = {day: 1_600_000.0, day - 1: 0.0, day - 2: 400_000.0}
    await Alerting(kept, kept, kept, kept, tariffs, bench.meters, bench.clock).look()  # type: ignore[arg-type]
    assert sorted(event.kind for event in kept.events.values()) == ["usage_spike", "usage_threshold"]
