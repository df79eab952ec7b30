"""When a delivery that failed is tried again."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.webhooks.tries import LAST_WINDOW_S, TRIED_FOR_S, Fate, Told, reported

NOW = 1_800_000_000.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A delivery that was claimed `tries` times."""

    tries: int
    time: float = NOW
    due_at: float | None = NOW + 60
    fate: Fate = Fate.WAITING
    status: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a claimer says of a try that failed."""

    tries: int
    now: float
    roll: float
    retry_after_s: float
    told: Told = Told.FAILED
    status: int = 500
    reason: str = "refused"


def failed(tries: int = 1, now: float = NOW, roll: float = 1.0, retry_after_s: float = 0.0) -> float | None:
    after = reported(Kept(tries), Failure(tries, now, roll, retry_after_s))
    assert after is not None
    assert (after.fate is Fate.DEAD) == (after.due_at is None)
    assert (after.tries, after.status, after.reason) == (tries, 500, "refused")
    return after.due_at


@pytest.mark.parametrize(
    ("tries", "window_s"), [(1, 5), (2, 20), (3, 80), (4, 320), (6, 5120), (7, LAST_WINDOW_S), (10**6, LAST_WINDOW_S)]
)
def test_the_window_of_the_next_try_grows_and_it_comes_anywhere_in_it(tries: int, window_s: float) -> None:
    assert failed(tries, roll=1.0) == NOW + window_s
    assert failed(tries, roll=0.5) == NOW + window_s / 2
    assert failed(tries, roll=0.0) == NOW + 1  # never at once


def test_a_receiver_may_ask_for_more_time_but_not_for_ever() -> None:
    assert failed(retry_after_s=90) == NOW + 90
    assert failed(retry_after_s=1) == NOW + 5
    assert failed(retry_after_s=1e9) == NOW + LAST_WINDOW_S


def test_the_last_try_is_at_the_end_of_the_day() -> None:
    assert failed(9, NOW + TRIED_FOR_S - 10) == NOW + TRIED_FOR_S
    assert failed(9, NOW + TRIED_FOR_S) is None


@given(st.lists(st.floats(0, 1), min_size=30, max_size=30))
def test_a_receiver_that_never_answers_is_tried_for_a_day_and_not_often(rolls: list[float]) -> None:
    now, tries = NOW, 1
    for roll in [*rolls, *[0.9] * 30]:
        due_at = failed(tries, now, roll)
        if due_at is None:
            break
        assert due_at >= min(now + 1, NOW + TRIED_FOR_S)
        now, tries = due_at, tries + 1
    assert now == NOW + TRIED_FOR_S
