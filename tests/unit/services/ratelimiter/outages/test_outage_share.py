"""What one process grants while the ledger of all is away."""

from __future__ import annotations

import pytest

from libs.ids import TenantId
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.outages.outage_share import Share, is_closed, reduced
from services.ratelimiter.tiers.policy import Limits, Outage, Policy
from services.ratelimiter.tiers.tariffs import Tariffs

LIMITS = Limits(
    "pro",
    requests=Rate(60, 10),
    units=Rate(1000, 2000),
    in_flight_images=10,
    daily_images=3,
    daily_units=5000,
    address_daily_images=150,
    max_pixels=7,
    outage=Outage(share=0.5, lasts_s=300.0),
)


def test_every_limit_is_reduced_and_divided_but_those_of_one_picture():
    found = reduced(LIMITS, replicas=2)
    assert (found.requests, found.units) == (Rate(15, 2.5), Rate(250, 500))
    assert (found.in_flight_images, found.daily_images, found.daily_units) == (2, 1, 1250)
    assert (found.address_daily_images, found.network_images, found.max_pixels) == (37, 150, 7)


def test_together_the_replicas_grant_no_more_than_the_share():
    for replicas in (1, 2, 3, 7):
        assert reduced(LIMITS, replicas).units.per_minute * replicas == pytest.approx(500)


def test_no_limit_stays_none():
    found = reduced(Limits("pro", Rate(1, 1), Rate(1, 1), outage=Outage(share=0.5)), 1)
    assert (found.in_flight_images, found.daily_images, found.daily_units) == (None, None, None)
    assert found.requests.burst == 1  # a single request fits


@pytest.mark.parametrize(
    ("outage", "out_for_s", "closed"),
    [
        (Outage(share=0.0), 0.0, True),
        (Outage(share=0.5), 1e6, False),
        (Outage(share=0.5, lasts_s=300), 300, False),
        (Outage(share=0.5, lasts_s=300), 301, True),
    ],
)
def test_when_a_tier_grants_nothing(outage: Outage, out_for_s: float, closed: bool):
    assert is_closed(Limits("pro", Rate(1, 1), Rate(1, 1), outage=outage), out_for_s) is closed


def test_it_reduces_what_is_in_force():
    share = Share(Tariffs(Policy({"pro": LIMITS})), 1)
    assert share.of(TenantId("t"), "pro").units == Rate(500, 1000)
