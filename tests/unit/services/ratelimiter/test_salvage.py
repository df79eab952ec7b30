"""What an account holds after its ledger may have lost the latest."""

from __future__ import annotations

from libs.ids import JobId
from services.ratelimiter.balance import Balance
from services.ratelimiter.bucket import Fill
from services.ratelimiter.days import Day
from services.ratelimiter.leases import Lease
from services.ratelimiter.salvage import at_least

KEPT = Balance(
    requests=Fill(3, 100.0),
    units=Fill(500, 100.0),
    day=Day(7, images=10, units=900, blocks=2),
    leases=(Lease(JobId("j"), 2, until_s=200.0, due_s=150.0),),
    refills=4,
    empty_from_s=300.0,
)


def test_an_account_that_is_gone_is_what_usage_knows():
    assert at_least(None, KEPT) == KEPT


def test_what_is_newer_than_usage_stays():
    known = Balance(Fill(1, 99.0), Fill(50, 101.9), Day(7, images=8, units=800), empty_from_s=400.0)
    found = at_least(KEPT, known)
    assert (found.requests, found.units, found.leases, found.refills) == (KEPT.requests, KEPT.units, KEPT.leases, 4)
    assert found.empty_from_s == 400.0


def test_what_usage_saw_later_counts_and_no_refund_looks_behind_it():
    known = Balance(Fill(1, 99.0), Fill(50, 160.0), Day(7, images=12, units=800))
    found = at_least(KEPT, known)
    assert (found.requests, found.units) == (KEPT.requests, Fill(50, 160.0))
    assert found.refills == 5


def test_of_one_day_the_fuller_counters_and_of_two_the_later():
    assert at_least(KEPT, Balance(day=Day(7, images=12, units=800))).day == Day(7, images=12, units=900, blocks=2)
    assert at_least(KEPT, Balance(day=Day(8, images=1))).day == Day(8, images=1)
    assert at_least(KEPT, Balance(day=Day(6, images=99))).day == KEPT.day
