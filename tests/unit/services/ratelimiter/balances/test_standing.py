"""What is used of every limit, account by account, as its owner is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.balance import Amount, Balance, lease, shift
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.balances.leases import Lease
from services.ratelimiter.balances.scope import Scope, scopes_of
from services.ratelimiter.balances.standing import standings
from services.ratelimiter.headers import limit_headers
from services.ratelimiter.tiers.policy import Limits

NOW_S = 1_700_000_000.5
MIDNIGHT_S = 1_700_006_400.0
RATES = Limits("free", requests=Rate(10, 10), units=Rate(30_000, 60_000))
WHOLE = replace(RATES, in_flight_images=4, daily_images=50, daily_units=1e6, address_daily_images=150)


def told(*held: tuple[Balance, Scope]) -> dict[tuple[str, str], tuple[Any, ...]]:
    found = list(standings(held, NOW_S))
    named = {(each.whose, each.dimension.value): (each.limit, each.used, each.remaining) for each in found}
    assert len(named) == len(found)
    return named


def test_every_limit_of_a_tenant_and_of_its_key_is_told_by_itself():
    tenant, key = scopes_of(TenantId("t"), WHOLE, key=(KeyId("k"), replace(RATES, daily_images=3)))
    spent = shift(Balance(), WHOLE, Amount(2, 15_000.4, 5, 15_000.4), NOW_S)
    spent = lease(spent, WHOLE, Lease(JobId("job"), 3, NOW_S + 60, NOW_S + 9), NOW_S)
    assert told((spent, tenant), (Balance(), key)) == {
        ("tenant", "requests"): (10, 2, 8),
        ("tenant", "cost"): (60_000, 15_001, 44_999),
        ("tenant", "in_flight"): (4, 3, 1),
        ("tenant", "daily_images"): (50, 5, 45),
        ("tenant", "daily_units"): (1e6, 15_001, 984_999),
        ("key", "requests"): (10, 0, 10),
        ("key", "cost"): (60_000, 0, 60_000),
        ("key", "daily_images"): (3, 0, 3),
    }


def test_of_an_address_only_its_ceilings_are_told_and_newcomers_apart():
    held = [(Balance(), scope) for scope in scopes_of(TenantId("anon:a"), WHOLE, "a", new=True)]
    found = {place: numbers for place, numbers in told(*held).items() if place[0] != "tenant"}
    assert found == {("address", "address"): (150, 0, 150), ("newcomers", "address"): (50, 0, 50)}


def test_rates_say_when_all_of_them_is_back_days_end_at_midnight_and_places_when_jobs_do():
    (scope,) = scopes_of(TenantId("t"), WHOLE)
    found = {
        s.dimension.value: s for s in standings([(shift(Balance(), WHOLE, Amount(1, 6_000), NOW_S), scope)], NOW_S)
    }
    assert {name: (each.per_minute, each.resets_s) for name, each in found.items()} == {
        "requests": (10, NOW_S + 6),
        "cost": (30_000, NOW_S + 12),
        "in_flight": (None, None),
        "daily_images": (None, MIDNIGHT_S),
        "daily_units": (None, MIDNIGHT_S),
    }


def test_debt_is_more_used_than_there_is_and_nothing_left():
    (scope,) = scopes_of(TenantId("t"), WHOLE)
    assert told((shift(Balance(), WHOLE, Amount(0, 90_000), NOW_S), scope))["tenant", "cost"] == (60_000, 90_000, 0)


@pytest.mark.parametrize(
    "spent", [Amount(), Amount(1, 0.2), Amount(9.5, 59_999.9, 49, 999_999.5), Amount(10, 70_000, 50)]
)
def test_the_answer_says_what_the_headers_say(spent: Amount):
    (scope,) = scopes_of(TenantId("t"), WHOLE)
    held = [(shift(Balance(), WHOLE, spent, NOW_S), scope)]
    headers = dict(limit_headers(held, NOW_S))
    left = {place[1]: numbers[2] for place, numbers in told(*held).items()}
    named = {"requests": "requests", "cost": "cost", "daily": "daily_images", "concurrent": "in_flight"}
    for header, dimension in named.items():
        assert headers[f"x-ratelimit-remaining-{header}"] == str(left[dimension])
