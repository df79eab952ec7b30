"""When a delivery that failed is tried again."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.scheduler.job import JobState
from services.scheduler.webhooks import deliveries
from services.scheduler.webhooks.deliveries import LAST_WINDOW_S, TRIED_FOR_S
from services.scheduler.webhooks.store import Delivery, Fate, Report, Told

NOW = 1_800_000_000.0
JOB = JobId("job_1")
DELIVERY = Delivery(
    JOB, 3, TenantId("acme"), "https://hook.example/", "hook.example", "completed", NOW, JobState.SUCCEEDED, "m", "m@1",
    tries=1, due_at=NOW + 60,
)  # fmt: skip


def failed(tries: int = 1, now: float = NOW, roll: float = 1.0, retry_after_s: float = 0.0) -> float | None:
    delivery = dataclasses.replace(DELIVERY, tries=tries)
    report = Report(JOB, 3, tries, Told.FAILED, now, roll, retry_after_s=retry_after_s)
    after = deliveries.reported(delivery, report)
    assert after is not None
    assert (after.fate is Fate.DEAD) == (after.due_at is None)
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


@pytest.mark.parametrize("url", ["https://Hook.Example:8443/a", "https://hook.example./", "https://hook.example"])
def test_a_host_is_counted_alike_however_it_is_written(url: str) -> None:
    assert deliveries.host_of(url) == "hook.example"


@pytest.mark.parametrize("url", ["https://a]b/", "https://a[b/", "https://a[b]c/", "", "https://[::1"])
def test_whom_a_url_leads_to_may_be_unknown(url: str) -> None:
    assert deliveries.host_of(url) == ""
