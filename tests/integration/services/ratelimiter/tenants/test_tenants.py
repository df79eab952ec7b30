"""What operators say of tenants and tiers, over the wire, and how soon it holds everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from libs.clients.limiter import Reservation, Settlement
from libs.clients.limiter_tenants import TenantChange, TenantsClient
from libs.errors import InvalidRequest, NotFound, PermissionDenied, Unavailable
from libs.ids import JobId, KeyId, TenantId
from libs.rpc import health
from libs.rpc.channel import open_channel
from libs.secret_files import MESH_TOKEN, read_token
from libs.testing import waiting

ACME = TenantId("acme")
PRICED = "requests_per_minute = 60\nrequests_burst = 60\nunits_per_minute = 1000\nunits_burst = 1000\nprice_per_1000_units = 2"


def reservation(name: str = "job_1", units: float = 100.0, tier: str = "pro") -> Reservation:
    return Reservation(JobId(name), ACME, tier, units, images=1)


def settlement(name: str = "job_1", charged: float = 60.0, tier: str = "pro") -> Settlement:
    numbers: dict[str, Any] = {
        "reserved_units": 100.0,
        "actual_units": charged,
        "charged_units": charged,
        "gpu_ms": charged,
    }
    return Settlement(
        JobId(name), ACME, tier, KeyId(""), images=1, model_version="tiny@1", outcome="succeeded", **numbers
    )


@pytest.fixture
def tenants(service) -> TenantsClient:
    return TenantsClient(service.channel)


@pytest.fixture
def priced(settings) -> None:
    """Have payg cost 2 of the currency for 1,000 units: 100 units are 0.20."""
    text = settings.tiers.read_text()
    before, _, after = text.partition("[payg]\n")
    settings.tiers.write_text(f"{before}[payg]\n{PRICED}\n[free]{after.partition('[free]')[2]}")


async def test_a_tenant_is_made_changed_and_told(tenants: TenantsClient, service, clock):
    made = await tenants.set(TenantChange(ACME, tier="pro"))
    assert (made.id, made.tier, made.verified, made.created_s) == (ACME, "pro", False, clock.now())
    changed = await tenants.set(
        TenantChange(ACME, verified=True, limits={"requests_burst": "7", "daily_images": "10"}, cap_micros=5_000_000)
    )
    assert (changed.verified, changed.limits) == (True, {"requests_burst": "7", "daily_images": "10"})
    assert changed.cap_micros == 5_000_000
    less = await tenants.set(TenantChange(ACME, limits={"daily_images": "tier"}, cap_micros=-1))
    assert (less.tier, less.verified, less.limits, less.cap_micros) == ("pro", True, {"requests_burst": "7"}, None)
    assert await tenants.get(ACME) == less
    await tenants.set(TenantChange(TenantId("aaa"), tier="free"))
    assert [tenant.id async for tenant in tenants.list()] == ["aaa", "acme"]


async def test_what_is_agreed_holds_at_once_and_after_a_restart(start):
    async with start() as first:
        await TenantsClient(first.channel).set(TenantChange(ACME, "pro", limits={"units_burst": "50"}))
        assert (await first.limiter.reserve(reservation())).denial.dimension == "tier"
    async with start() as second:
        assert (await second.limiter.reserve(reservation())).denial.dimension == "tier"
        assert (await second.limiter.reserve(reservation(units=50))).denial is None


async def test_a_key_has_limits_of_its_own(tenants: TenantsClient, service):
    made = await service.admin.create_key(ACME, "pro", "laptop")
    told = await tenants.set(TenantChange(ACME, limits={"daily_images": "3"}, key_id=made.key.id))
    assert (told.limits, told.key_limits) == ({}, {made.key.id: {"daily_images": "3"}})
    with pytest.raises(NotFound, match="has no key key_none"):
        await tenants.set(TenantChange(ACME, limits={"daily_images": "3"}, key_id=KeyId("key_none")))


async def test_mistakes_are_told_and_change_nothing(tenants: TenantsClient):
    with pytest.raises(NotFound, match="no tenant acme"):
        await tenants.set(TenantChange(ACME, limits={"daily_images": "3"}))
    with pytest.raises(InvalidRequest, match="enterprise, pro, payg, free, anonymous"):
        await tenants.set(TenantChange(ACME, tier="gold"))
    with pytest.raises(InvalidRequest, match="anon:"):
        await tenants.set(TenantChange(TenantId("anon:1.2.3.4"), tier="free"))
    await tenants.set(TenantChange(ACME, tier="pro"))
    for beyond in ("1e999", "nan", "9" * 400, "9" * 5000):
        with pytest.raises(InvalidRequest, match="daily_images: must be a whole number above 0"):
            await tenants.set(TenantChange(ACME, limits={"daily_images": beyond}))
    wrong = {"daily_image": "3", "max_steps": "many", "units_burst": "none", "daily_units": "-1"}
    with pytest.raises(InvalidRequest) as caught:
        await tenants.set(TenantChange(ACME, limits=wrong))
    told = [violation.description for violation in caught.value.violations]
    assert told == [
        "daily_image: unknown; did you mean daily_images?",
        "units_burst: missing",
        "daily_units: must be a number above 0",
        "max_steps: must be a whole number above 0",
    ]
    large = {"max_pixels": "4194304", "max_steps": "100"}
    with pytest.raises(InvalidRequest, match="units_burst: must be 580_245 or more"):
        await tenants.set(TenantChange(ACME, limits=large))
    assert (await tenants.get(ACME)).limits == {}


async def test_the_limits_of_a_tenant_tell_what_is_left(tenants: TenantsClient, service):
    await tenants.set(TenantChange(ACME, tier="pro"))
    await service.limiter.reserve(reservation(units=400))
    tier, limits = await tenants.limits(ACME)
    state = {one.dimension: (one.limit, one.remaining) for one in limits}
    assert (tier, state["rpm"], state["cost"]) == ("pro", (60, 59), (1000, 600))
    assert {one.reset_s for one in limits if one.dimension == "cost"} == {24}
    assert (await tenants.limits(TenantId("anon:203.0.113.7")))[0] == "anonymous"


async def test_a_tier_for_verified_tenants_takes_nobody_else(tenants: TenantsClient, service):
    await tenants.set(TenantChange(ACME, tier="pro", limits={"requires": "verified"}))
    with pytest.raises(PermissionDenied, match="not verified yet") as caught:
        await service.limiter.reserve(reservation())
    assert caught.value.reason == "TENANT_NOT_VERIFIED"
    await tenants.set(TenantChange(ACME, verified=True))
    assert (await service.limiter.reserve(reservation())).denial is None


async def test_a_priced_tier_needs_money_holds_it_and_spends_it_once(priced, start):
    async with start() as service:
        tenants = TenantsClient(service.channel)
        await tenants.set(TenantChange(ACME, tier="payg"))
        denial = (await service.limiter.reserve(reservation(tier="payg"))).denial
        assert (denial.dimension, denial.limit, denial.available) == ("balance", 0.2, 0.0)
        assert (
            await service.limiter.peek(reservation("", 0.0, tier="payg"))
        ).available_units == 1000  # a denial takes nothing
        await tenants.credit(ACME, 300_000, "invoice-7")
        await tenants.credit(ACME, 300_000, "invoice-7")
        assert (await service.limiter.reserve(reservation(tier="payg"))).denial is None
        assert (await service.limiter.reserve(reservation(tier="payg"))).denial is None  # the same again
        held = await tenants.get(ACME)
        assert (held.balance_micros, held.held_micros) == (300_000, 200_000)
        assert (await service.limiter.reserve(reservation("job_2", tier="payg"))).denial.dimension == "balance"
        await service.limiter.confirm(reservation(tier="payg"))
        for _ in range(2):
            await service.limiter.settle(settlement(charged=60, tier="payg"))
        spent = await tenants.get(ACME)
        assert (spent.balance_micros, spent.held_micros, spent.spent_micros) == (180_000, 0, 120_000)


async def test_a_cap_of_the_month_refuses_until_the_next(priced, start, clock):
    async with start() as service:
        tenants = TenantsClient(service.channel)
        await tenants.set(TenantChange(ACME, tier="payg", cap_micros=250_000))
        await tenants.credit(ACME, 5_000_000, "invoice-7")
        assert (await service.limiter.reserve(reservation(tier="payg"))).denial is None
        denial = (await service.limiter.reserve(reservation("job_2", tier="payg"))).denial
        assert (denial.dimension, denial.limit, denial.available) == ("spend", 0.25, pytest.approx(0.05))
        assert denial.retry_after_s == 1_701_388_800 - clock.now()  # 2023-12-01


async def test_money_comes_back_when_its_job_never_came(priced, start, clock):
    async with start() as service:
        tenants = TenantsClient(service.channel)
        await tenants.set(TenantChange(ACME, tier="payg"))
        await tenants.credit(ACME, 500_000, "invoice-7")
        await service.limiter.reserve(reservation("released", tier="payg"))
        await service.limiter.release(ACME, JobId("released"))
        assert (await tenants.get(ACME)).held_micros == 0
        await service.limiter.reserve(reservation("lost", tier="payg"))

        async def given_back() -> bool:
            await clock.advance(5)
            return (await tenants.get(ACME)).held_micros == 0

        assert (await tenants.get(ACME)).held_micros == 200_000
        await waiting.until(given_back, within_s=20)


async def test_without_the_database_who_pays_is_refused_and_keeps_nothing_held(priced, start, settings):
    async with start() as service:
        (settings.data / "ratelimiter.db").rename(settings.data / "elsewhere.db")
        (settings.data / "ratelimiter.db").mkdir()
        with pytest.raises(Unavailable):
            await service.limiter.reserve(reservation(tier="payg"))
        assert (await service.limiter.peek(reservation("", 0.0, tier="payg"))).available_units == 1000
        assert (await service.limiter.reserve(reservation())).denial is None


async def test_tiers_are_shown_checked_and_applied(tenants: TenantsClient, service, settings):
    shown = await tenants.tiers()
    assert (shown.path, shown.wrong) == (str(settings.tiers), "")
    assert shown.tiers["free"]["requests_burst"] == "10"
    other = settings.tiers.read_text().replace("requests_burst = 10", "requests_burst = 11")
    assert await tenants.check_tiers(other) == ["free.requests_burst: 10 → 11"]
    assert (await tenants.tiers()).tiers["free"]["requests_burst"] == "10"
    assert await tenants.apply_tiers(other) == (str(settings.tiers), ["free.requests_burst: 10 → 11"])
    assert (await tenants.tiers()).tiers["free"]["requests_burst"] == "11"
    assert settings.tiers.read_text() == other
    with pytest.raises(InvalidRequest, match="tier fre: unknown"):
        await tenants.apply_tiers(other.replace("[free]", "[fre]"))


async def test_a_file_that_went_wrong_is_told(tenants: TenantsClient, service, settings, clock):
    settings.tiers.write_text("[pro")

    async def told() -> bool:
        await clock.advance(2)
        return "tiers.toml" in (await tenants.tiers()).wrong

    await waiting.until(told, within_s=20)
    assert not await health.serves(f"127.0.0.1:{service.port}", "darkroom.tiers")
    assert await health.serves(f"127.0.0.1:{service.port}")
    assert (await service.limiter.reserve(reservation())).denial is None


async def test_only_operators_see_tenants(service, settings):
    mesh = read_token(settings.secrets_folder, MESH_TOKEN)
    async with open_channel(f"127.0.0.1:{service.port}", mesh_token=mesh) as channel:
        with pytest.raises(PermissionDenied):
            await TenantsClient(channel).get(ACME)
        with pytest.raises(PermissionDenied):
            await TenantsClient(channel).tiers()
