"""Tier, tenant and key: whose limits are in force."""

from __future__ import annotations

import pytest

from libs.errors import InvalidRequest
from libs.ids import KeyId, TenantId
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers.tariffs import Agreement, Tariffs

ACME, OTHER, KEY = TenantId("acme"), TenantId("other"), KeyId("key_1")


@pytest.fixture
def tariffs() -> Tariffs:
    return Tariffs(policy.load(policy.SHIPPED))


def test_without_agreements_the_tier_holds_for_tenants_and_keys(tariffs: Tariffs):
    assert tariffs.of(ACME, "free") == tariffs.of(ACME, "free", KEY) == tariffs.policy.of("free")
    assert not tariffs.has_own(ACME, KEY)
    assert not tariffs.is_verified(ACME)


def test_what_is_agreed_with_a_tenant_holds_for_it_alone_and_under_every_tier(tariffs: Tariffs):
    tariffs.take_agreements([Agreement(ACME, fields={"daily_images": 7}, verified=True)])
    assert [tariffs.of(ACME, tier).daily_images for tier in policy.TIERS] == [7] * 5
    assert tariffs.of(OTHER, "free").daily_images == 200
    assert (tariffs.is_verified(ACME), tariffs.is_verified(OTHER)) == (True, False)


def test_a_key_has_its_tenants_limits_but_for_its_own(tariffs: Tariffs):
    tenants = Agreement(ACME, fields={"daily_images": 70, "max_steps": 20})
    tariffs.take_agreements([tenants, Agreement(ACME, KEY, {"daily_images": 7})])
    assert tariffs.has_own(ACME, KEY)
    assert (tariffs.of(ACME, "free", KEY).daily_images, tariffs.of(ACME, "free", KEY).max_steps) == (7, 20)
    assert tariffs.of(ACME, "free").daily_images == 70
    assert tariffs.of(ACME, "free", KeyId("key_2")).daily_images == 70


def test_changes_of_tiers_and_agreements_hold_at_once(tariffs: Tariffs):
    tariffs.take_agreements([Agreement(ACME, fields={"daily_images": 7})])
    assert tariffs.of(ACME, "free").daily_images == 7
    text = policy.SHIPPED.read_text().replace("max_steps = 50", "max_steps = 40")
    tariffs.take_tiers(policy.parse(text, "x"))
    assert (tariffs.of(ACME, "free").max_steps, tariffs.of(ACME, "free").daily_images) == (40, 7)
    tariffs.take_agreements([Agreement(ACME)])
    assert tariffs.of(ACME, "free").daily_images == 200


def test_the_window_is_as_long_as_the_longest_agreed(tariffs: Tariffs):
    assert tariffs.window_s == 150
    tariffs.take_agreements([Agreement(ACME, fields={"requests_per_minute": 1, "requests_burst": 60})])
    assert tariffs.window_s == 3600


def test_a_tier_that_there_is_not_is_named_with_those_that_are(tariffs: Tariffs):
    with pytest.raises(InvalidRequest, match="known are enterprise, pro, payg, free, anonymous"):
        tariffs.of(ACME, "gold")
