"""What a caller reads about their limits."""

from __future__ import annotations

import pytest

from services.ratelimiter.balance import Amount, Balance, denial, shift
from services.ratelimiter.bucket import Rate
from services.ratelimiter.headers import duration, limit_headers
from services.ratelimiter.policy import Limits

NOW_S = 1_700_000_000.5
LIMITS = Limits("free", requests=Rate(10, 10), units=Rate(30_000, 60_000))


def test_every_header_of_a_tenant_that_has_spent():
    balance = shift(Balance(), LIMITS, Amount(1, 15_000.4), NOW_S)
    assert dict(limit_headers(LIMITS, balance, NOW_S)) == {
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
    headers = dict(limit_headers(LIMITS, shift(Balance(), LIMITS, Amount(0, 90_000), NOW_S), NOW_S))
    assert headers["x-ratelimit-remaining-cost"] == "0"
    assert headers["x-ratelimit-reset-cost"] == "3m0s"


def test_a_denial_tells_when_to_come_again_unless_waiting_is_no_help():
    spent = shift(Balance(), LIMITS, Amount(10, 0), NOW_S)
    denied = dict(limit_headers(LIMITS, spent, NOW_S, denial(spent, LIMITS, 1, NOW_S)))
    assert denied["retry-after"] == "6"
    never = dict(limit_headers(LIMITS, spent, NOW_S, denial(spent, LIMITS, 60_001, NOW_S)))
    assert "retry-after" not in never


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.2, "1s"), (38, "38s"), (59.1, "1m0s"), (360, "6m0s"), (3599.5, "1h0m0s"), (7325, "2h2m5s")],
)
def test_durations_read_like_those_of_other_apis(seconds: float, text: str):
    assert duration(seconds) == text
