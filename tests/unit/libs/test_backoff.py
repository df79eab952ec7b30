"""Waits between tries: doubling up to a limit, spread, and from the start again once the peer answered."""

from __future__ import annotations

from libs.backoff import Backoff


def test_waits_double_up_to_the_limit_each_within_half_of_its_step():
    backoff = Backoff(first_s=0.1, most_s=0.5)
    for step_s in (0.1, 0.2, 0.4, 0.5, 0.5):
        assert 0.5 * step_s <= backoff.next_s() <= 1.5 * step_s


def test_processes_that_lost_the_same_peer_do_not_wait_alike():
    assert len({Backoff().next_s() for _ in range(10)}) > 1


def test_a_peer_that_answered_is_asked_again_soon():
    backoff = Backoff(first_s=0.1, most_s=100.0)
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.15
