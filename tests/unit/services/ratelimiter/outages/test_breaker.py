"""When a ledger that does not answer is left alone."""

from __future__ import annotations

from services.ratelimiter.outages.breaker import Breaker


def failed(times_s: list[float]) -> Breaker:
    breaker = Breaker()
    for now_s in times_s:
        breaker.failed(now_s)
    return breaker


def test_five_failures_within_a_second_open_it():
    assert not failed([0.0, 0.25, 0.5, 0.75]).is_open
    assert failed([0.0, 0.25, 0.5, 0.75, 1.0]).is_open
    assert not failed([0.0, 0.25, 0.5, 0.75, 1.1]).is_open
    assert failed([0.0, 0.25, 0.5, 0.75, 1.1, 1.2]).is_open


def test_after_two_seconds_there_is_one_try_and_a_failed_one_waits_again():
    breaker = failed([10.0] * 5)
    assert not breaker.may_try(11.9)
    assert breaker.may_try(12.0)
    breaker.open(12.5)
    assert not breaker.may_try(14.4)
    assert breaker.may_try(14.5)


def test_an_outage_lasts_over_its_tries():
    breaker = failed([10.0] * 5)
    breaker.open(12.0)
    assert breaker.out_for_s(15.0) == 5.0
    breaker.close(15.0)
    assert not breaker.is_open


def test_an_outage_soon_after_another_is_the_same_one():
    breaker = failed([10.0] * 5)
    breaker.close(15.0)
    assert breaker.out_for_s(600.0) == 5.0
    breaker.open_at_once(600.0)
    assert breaker.out_for_s(603.0) == 8.0
    breaker.close(610.0)
    assert breaker.out_for_s(1209.0) == 15.0
    assert breaker.out_for_s(1210.0) == 0.0
    breaker.open(1210.0)
    assert breaker.out_for_s(1211.0) == 1.0


def test_calls_that_failed_together_count_once():
    breaker = Breaker()
    for exchange in (1, 1, 1, 1, 1, 2, 3, 4, 3, 4):
        breaker.failed(0.0, exchange)
    assert not breaker.is_open
    breaker.failed(0.0, 5)
    assert breaker.is_open


def test_where_a_failure_takes_its_time_five_may_take_as_long():
    breaker = Breaker(failure_s=0.5)
    for now_s in (0.0, 0.5, 1.0, 1.5, 2.0):
        breaker.failed(now_s)
    assert breaker.is_open


def test_failures_before_an_outage_do_not_count_after_it():
    breaker = failed([10.0] * 5)
    breaker.close(10.1)
    breaker.failed(10.1)
    assert not breaker.is_open


def test_lost_data_are_put_back_without_waiting():
    breaker = Breaker()
    breaker.open_at_once(3.0)
    assert breaker.is_open
    assert breaker.may_try(3.0)
