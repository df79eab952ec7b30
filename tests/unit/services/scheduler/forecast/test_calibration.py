from __future__ import annotations

import random

import pytest

from libs.generation.attempt import StageDone
from libs.ids import JobId
from services.scheduler.forecast.calibration import Calibration
from services.scheduler.forecast.promises import MOST_OPEN, Promises
from services.scheduler.forecast.speeds import PRIOR_S_PER_UNIT, Speeds


def test_before_any_outcome_the_median_is_the_simulation_and_p90_about_twice_that() -> None:
    promise = Calibration().promise(10.0)
    assert promise.p50_s == pytest.approx(10.0)
    assert promise.p90_s == pytest.approx(21.0)
    assert Calibration().coverage() is None


def test_who_is_simulated_to_start_at_once_is_told_a_median_of_nothing() -> None:
    assert Calibration().promise(0.0).p50_s == 0.0


@pytest.mark.parametrize(("factor", "spread"), [(1.0, 0.2), (3.0, 0.5), (0.3, 0.1)])
def test_nine_of_ten_hold_whatever_the_simulation_is_wrong_by(factor: float, spread: float) -> None:
    dice, calibration, held = random.Random(7), Calibration(), []
    for _ in range(1000):
        simulated = dice.uniform(1.0, 100.0)
        promise = calibration.promise(simulated)
        held.append(calibration.observe(promise, simulated * factor * dice.lognormvariate(0.0, spread)))
    assert 0.87 <= sum(held) / len(held) <= 0.93
    assert calibration.coverage() == sum(held[-200:]) / 200


def test_it_follows_a_change_of_the_load() -> None:
    dice, calibration, held = random.Random(7), Calibration(), []
    for number in range(1200):
        factor = 1.0 if number < 600 else 4.0
        promise = calibration.promise(20.0)
        held.append(calibration.observe(promise, 20.0 * factor * dice.lognormvariate(0.0, 0.2)))
    assert sum(held[700:]) / 500 == pytest.approx(0.9, abs=0.05)


def test_only_the_first_answer_is_a_promise_and_it_is_settled_once() -> None:
    promises, name = Promises(), JobId("j")
    promises.follow(name, "pro", promises.promise("pro", 10.0, 0.0), 100.0)
    promises.follow(name, "pro", promises.promise("pro", 1000.0, 0.0), 101.0)
    promises.started(name, 190.0)
    promises.started(name, 110.0)
    assert promises.coverage("pro") == 0.0
    assert promises.coverage("free") is None


def test_a_promise_is_broken_when_it_is_and_not_when_its_job_starts() -> None:
    promises = Promises()
    first = promises.promise("pro", 10.0, 100.0)
    promises.follow(JobId("j"), "pro", first, 100.0)
    later = promises.promise("pro", 10.0, 100.0 + first.p90_s + 0.1)
    assert promises.outcomes() == {"pro": (1, 0)}
    assert later.p90_s >= first.p90_s
    promises.started(JobId("j"), 500.0)
    assert promises.outcomes() == {"pro": (1, 0)}
    assert promises.promise("pro", 10.0, 500.0).p90_s > 300.0


def test_who_started_at_once_as_told_and_who_left_say_nothing() -> None:
    promises = Promises()
    for name, simulated_s in (("at once", 0.0), ("left", 10.0)):
        promises.follow(JobId(name), "pro", promises.promise("pro", simulated_s, 0.0), 100.0)
    promises.gone(JobId("left"))
    promises.started(JobId("at once"), 100.0)
    promises.started(JobId("left"), 900.0)
    assert promises.coverage("pro") is None


def test_no_more_promises_are_followed_than_fit() -> None:
    promises = Promises()
    for number in range(MOST_OPEN + 1):
        promises.follow(JobId(f"j{number}"), "pro", promises.promise("pro", 10.0, 0.0), 0.0)
    promises.started(JobId(f"j{MOST_OPEN}"), 1.0)
    assert promises.coverage("pro") is None


def stages(*spans: tuple[str, float, float]) -> list[StageDone]:
    return [StageDone(*span) for span in spans]


def test_speeds_are_learned_by_worker_and_model_without_the_load() -> None:
    speeds = Speeds()
    assert speeds.seconds_per_unit("w0", "m") == PRIOR_S_PER_UNIT
    drawn = stages(("queue", 0.0, 50.0), ("load", 50.0, 60.0), ("encode", 60.0, 61.0), ("denoise", 61.0, 64.0))
    speeds.learn("m", "w0", 2000.0, drawn)
    assert speeds.seconds_per_unit("w0", "m") == pytest.approx(0.002)
    assert speeds.seconds_per_unit("w1", "m") == pytest.approx(0.002)
    assert speeds.seconds_per_unit("w1", "n") == pytest.approx(0.002)
    speeds.learn("m", "w0", 2000.0, stages(("denoise", 0.0, 8.0)))
    assert 0.002 < speeds.seconds_per_unit("w0", "m") < 0.004


def test_what_says_nothing_about_speed_changes_none() -> None:
    speeds = Speeds()
    speeds.learn("m", "w0", 0.0, stages(("denoise", 0.0, 8.0)))
    speeds.learn("m", "w0", 100.0, stages(("queue", 0.0, 8.0)))
    assert speeds.seconds_per_unit("w0", "m") == PRIOR_S_PER_UNIT
