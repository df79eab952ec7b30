"""What a caller reads about their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from libs.ids import JobId, TenantId
from services.ratelimiter.balances.balance import Amount, Balance, lease, shift
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.balances.leases import Lease
from services.ratelimiter.balances.refusal import Ask, Denial, binding, refusals
from services.ratelimiter.balances.scope import Scope, scopes_of
from services.ratelimiter.headers import Header, duration, limit_headers
from services.ratelimiter.tiers.policy import Limits

NOW_S = 1_700_000_000.5
LIMITS = Limits("free", requests=Rate(10, 10), units=Rate(30_000, 60_000))


def scope(limits: Limits = LIMITS) -> Scope:
    return scopes_of(TenantId("t"), limits)[0]


def told(balance: Balance, limits: Limits = LIMITS, denial: Denial | None = None) -> dict[str, str]:
    headers: Sequence[Header] = limit_headers([(balance, scope(limits))], NOW_S, denial)
    assert len(dict(headers)) == len(headers)
    return dict(headers)


def denial(balance: Balance, units: float) -> Denial | None:
    return binding(refusals(balance, scope(), Ask(units), NOW_S))


def test_every_header_of_a_tenant_that_has_spent():
    balance = shift(Balance(), LIMITS, Amount(1, 15_000.4), NOW_S)
    assert told(balance) == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "6s",
        "x-ratelimit-limit-cost": "60000",
        "x-ratelimit-remaining-cost": "44999",
        "x-ratelimit-reset-cost": "31s",
        "x-ratelimit-limit": "10",
        "x-ratelimit-remaining": "9",
        "x-ratelimit-reset": "1700000007",
        "ratelimit-policy": '"rpm";q=10;w=60, "cost";q=60000;w=120;qu="gpu-units"',
        "ratelimit": '"rpm";r=9;t=6, "cost";r=44999;t=31',
    }


def test_debt_shows_as_nothing_left():
    headers = told(shift(Balance(), LIMITS, Amount(0, 90_000), NOW_S))
    assert headers["x-ratelimit-remaining-cost"] == "0"
    assert headers["x-ratelimit-reset-cost"] == "3m0s"


def test_a_denial_tells_when_to_come_again_unless_waiting_is_no_help():
    spent = shift(Balance(), LIMITS, Amount(10, 0), NOW_S)
    denied = told(spent, denial=denial(spent, 1))
    assert (denied["retry-after"], denied["retry-after-ms"], denied["x-should-retry"]) == ("6", "6000", "true")
    never = told(spent, denial=denial(spent, 60_001))
    assert "retry-after" not in never
    assert never["x-should-retry"] == "false"


def test_what_is_in_flight_and_of_the_day_is_told_where_it_is_limited():
    limits = replace(LIMITS, in_flight_images=4, daily_images=50, daily_units=3_000_000.0)
    spent = shift(Balance(), limits, Amount(images=9, day_units=1000.5), NOW_S)
    headers = told(lease(spent, limits, Lease(JobId("job_1"), 3, NOW_S + 60, NOW_S), NOW_S), limits)
    assert {name: value for name, value in headers.items() if "concurrent" in name or "daily" in name} == {
        "x-ratelimit-limit-concurrent": "4",
        "x-ratelimit-remaining-concurrent": "1",
        "x-ratelimit-limit-daily": "50",
        "x-ratelimit-remaining-daily": "41",
        "x-ratelimit-reset-daily": "1h46m40s",
    }
    assert headers["ratelimit-policy"].endswith(
        '"concurrent";q=4;qu="concurrent-images", "daily";q=50;w=86400;qu="images", '
        '"daily-units";q=3000000;w=86400;qu="gpu-units"'
    )
    assert headers["ratelimit"].endswith('"concurrent";r=1, "daily";r=41;t=6400, "daily-units";r=2998999;t=6400')


def test_of_several_accounts_the_one_with_the_least_left_is_told():
    limits = replace(LIMITS, daily_images=50, address_daily_images=150)
    tenant, address = scopes_of(TenantId("t"), limits, "203.0.113.7")
    crowd = shift(Balance(), address.limits, Amount(images=148), NOW_S)
    headers = dict(limit_headers([(Balance(), tenant), (crowd, address)], NOW_S))
    assert (headers["x-ratelimit-limit-daily"], headers["x-ratelimit-remaining-daily"]) == ("150", "2")
    assert headers["x-ratelimit-remaining-requests"] == "10"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.2, "1s"), (38, "38s"), (59.1, "1m0s"), (360, "6m0s"), (3599.5, "1h0m0s"), (7325, "2h2m5s")],
)
def test_durations_read_like_those_of_other_apis(seconds: float, text: str):
    assert duration(seconds) == text
