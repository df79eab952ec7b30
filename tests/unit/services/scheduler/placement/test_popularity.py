from __future__ import annotations

import pytest

from services.scheduler.placement.popularity import Popularity

DAY_S = 86_400.0
MIDNIGHT = 19_700 * DAY_S


def test_nobody_expects_what_was_never_asked_for() -> None:
    popularity = Popularity()
    assert (popularity.rate("m@1", 5.0), popularity.likelihood("m@1", 5.0, 100.0), popularity.models()) == (
        0.0,
        0.0,
        [],
    )


def test_a_steady_stream_is_expected_to_go_on() -> None:
    popularity = Popularity()
    for number in range(1000):
        popularity.note("m@1", MIDNIGHT + 10.0 * number)
    now = MIDNIGHT + 10_000.0
    assert popularity.rate("m@1", now) == pytest.approx(0.1, rel=0.3)
    assert popularity.likelihood("m@1", now, 100.0) > 0.99
    assert popularity.rate("m@1", now + 3600.0) < popularity.rate("m@1", now), "it fades"


def test_what_is_popular_now_is_likelier_than_what_was() -> None:
    popularity = Popularity()
    for number in range(100):
        popularity.note("old@1", MIDNIGHT + number)
        popularity.note("new@1", MIDNIGHT + 3600.0 + number)
    now = MIDNIGHT + 3800.0
    assert popularity.likelihood("new@1", now, 120.0) > popularity.likelihood("old@1", now, 120.0) > 0.0


def test_the_hour_of_the_day_is_remembered() -> None:
    popularity = Popularity()
    for day in range(7):
        for number in range(60):
            popularity.note("noon@1", MIDNIGHT + day * DAY_S + 12 * 3600.0 + 60.0 * number)
            popularity.note("night@1", MIDNIGHT + day * DAY_S + 60.0 * number)
    before_noon = MIDNIGHT + 7 * DAY_S + 12 * 3600.0
    assert popularity.rate("noon@1", before_noon) > 3 * popularity.rate("night@1", before_noon)


def test_a_clock_that_was_set_back_breaks_nothing() -> None:
    popularity = Popularity()
    popularity.note("m@1", 1000.0)
    popularity.note("m@1", 10.0)
    assert 0.0 <= popularity.likelihood("m@1", 0.0, 10.0) <= 1.0
