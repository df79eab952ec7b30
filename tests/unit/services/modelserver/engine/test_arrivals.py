from __future__ import annotations

import pytest

from services.modelserver.engine.arrivals import Arrivals, Forecast


def counted(asked: str, gap_s: float = 10.0) -> dict[str, float]:
    arrivals = Arrivals()
    for number, model in enumerate(asked):
        arrivals.note(model, number * gap_s)
    return dict(arrivals.expected_s())


def test_what_is_asked_for_as_often_is_expected_as_soon_and_the_mean_is_true():
    expected = counted("abcd" * 200)
    assert expected["a"] == pytest.approx(40.0, rel=0.05)
    assert max(expected.values()) / min(expected.values()) < 1.05


def test_a_favourite_outlives_a_burst_of_something_else():
    expected = counted("abac" * 30 + "d" * 12)
    assert expected["a"] < expected["c"] < expected["d"]


def test_yesterdays_favourite_fades():
    expected = counted("a" * 300 + "bcdefg" * 60)
    assert expected["a"] > expected["b"]


def test_requests_of_one_moment_still_tell_models_apart():
    expected = counted("aaaaabaaaaacb", gap_s=0.0)
    assert expected["a"] < expected["c"]


def test_the_first_request_tells_nothing_of_others():
    assert counted("") == {}
    forecast = Forecast()
    forecast.note("a", 5.0)
    forecast.hint({"b": 9.0}, 7.0)
    outlook = forecast.outlook(6.0, {"c"}, {"d"})
    assert (outlook.next_use_in_s("b"), outlook.next_use_in_s("c"), outlook.leaving) == (3.0, 0.0, {"d"})
    assert outlook.next_use_in_s("a") < outlook.next_use_in_s("x")
