"""Workers that fail everything are kept apart; bad jobs never do that to good workers for long, nor to many."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, WorkerId
from services.scheduler.retries.quarantine import FAILURES, MOST_REST_S, REST_S, Quarantine

A, B, C, D = ((WorkerId(name), "1") for name in "abcd")
FLEET = (A, B, C, D)


def jobs(*numbers: int) -> list[JobId]:
    return [JobId(f"job_{number}") for number in numbers]


def kept_after(*numbers: int) -> Quarantine:
    quarantine = Quarantine()
    for job_id in jobs(*numbers):
        quarantine.failed(A, job_id, 0.0, FLEET)
    return quarantine


def test_distinct_jobs_in_a_row_put_a_worker_apart_and_the_last_does_not_count() -> None:
    quarantine = Quarantine()
    assert [quarantine.failed(A, job_id, 7.0, FLEET) for job_id in jobs(1, 2, 3)] == [False, False, True]
    assert quarantine.kept[A].until == 7.0 + REST_S
    assert quarantine.refunds(JobId("job_1")) == 1


def test_one_job_again_and_again_says_nothing() -> None:
    assert not kept_after(1, 1, 1, 1, 1).kept


def test_a_success_in_between_begins_anew() -> None:
    quarantine = kept_after(1, 2)
    quarantine.succeeded(A, JobId("job_9"), 0.0, FLEET)
    assert not quarantine.failed(A, JobId("job_3"), 0.0, FLEET)


def test_a_trial_sets_free_or_keeps_twice_as_long() -> None:
    quarantine, now = kept_after(1, 2, 3), REST_S
    for number in range(4, 10):
        before = quarantine.kept[A]
        assert quarantine.failed(A, JobId(f"job_{number}"), now, FLEET)
        assert quarantine.kept[A].rest_s == min(2 * before.rest_s, MOST_REST_S)
        now = quarantine.kept[A].until
    quarantine.succeeded(A, JobId("job_99"), now, FLEET)
    assert not quarantine.kept


def test_what_was_still_running_there_does_not_lengthen_the_rest() -> None:
    quarantine = kept_after(1, 2, 3)
    before = quarantine.kept[A]
    assert quarantine.failed(A, JobId("job_4"), 1.0, FLEET)
    assert quarantine.kept[A] == before


def test_a_restarted_worker_is_new() -> None:
    quarantine = kept_after(1, 2, 3)
    quarantine.forget_others(((A[0], "2"), B, C, D))
    assert not quarantine.kept


def test_jobs_that_fail_elsewhere_too_set_it_free_at_once() -> None:
    quarantine = kept_after(1, 2, 3)
    quarantine.failed(B, JobId("job_1"), 1.0, FLEET)
    assert not quarantine.kept


def test_jobs_that_succeed_elsewhere_count_against_all_that_failed_them() -> None:
    quarantine = Quarantine()
    for job_id in jobs(1, 2, 3):
        quarantine.failed(A, job_id, 0.0, FLEET)
        quarantine.failed(B, job_id, 0.0, FLEET)
    assert not quarantine.kept
    for job_id in jobs(1, 2, 3):
        quarantine.succeeded(C, job_id, 1.0, FLEET)
    assert set(quarantine.kept) == {A, B}


def test_who_is_apart_is_known_after_a_restart() -> None:
    before, after = kept_after(1, 2, 3), Quarantine()
    after.restore(json.loads(json.dumps(before.to_document())))
    assert after.kept == before.kept


def test_the_only_worker_is_never_put_apart() -> None:
    quarantine = Quarantine()
    assert not any(quarantine.failed(A, job_id, 0.0, (A,)) for job_id in jobs(*range(20)))


Act = tuple[int, int]  # worker, job


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=60), st.integers(1, 6))
def test_no_more_than_half_are_ever_apart(acts: list[Act], alive: int) -> None:
    fleet, quarantine = FLEET[:alive], Quarantine()
    for number, job in acts:
        quarantine.failed(fleet[number % len(fleet)], JobId(f"job_{job}"), 0.0, fleet)
        assert 2 * len(quarantine.kept) <= len(fleet)


@given(st.data(), st.integers(0, 8), st.permutations(range(4)))
def test_jobs_that_fail_everywhere_leave_no_good_worker_apart(
    data: st.DataObject, poison: int, order: list[int]
) -> None:
    """Poison jobs, each tried on two workers or more, in any order, leave the quarantine as empty as it was."""
    quarantine = Quarantine()
    tries = [(FLEET[(order[n % 4] + step) % 4], JobId(f"poison_{n}")) for n in range(poison) for step in (0, 1)]
    for worker, job_id in data.draw(st.permutations(tries)):
        quarantine.failed(worker, job_id, 0.0, FLEET)
    assert not quarantine.kept
    for number in range(poison):
        quarantine.over(JobId(f"poison_{number}"))
    for worker in FLEET:  # nor do they leave anything behind that would
        fresh = jobs(*range(100, 100 + FAILURES - 1))
        assert not any(quarantine.failed(worker, JobId(f"{job_id}{worker}"), 0.0, FLEET) for job_id in fresh)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, FAILURES - 2)), max_size=40))
def test_fewer_bad_jobs_than_the_limit_never_put_anyone_apart(acts: list[Act]) -> None:
    quarantine = Quarantine()
    for number, job in acts:
        assert not quarantine.failed(FLEET[number], JobId(f"poison_{job}"), 0.0, FLEET)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_a_worker_that_fails_what_others_draw_is_found_whatever_bad_jobs_come_between(others: list[int]) -> None:
    quarantine = Quarantine()
    for number in range(FAILURES):
        job_id = JobId(f"job_{number}")
        quarantine.failed(A, job_id, 0.0, FLEET)
        quarantine.succeeded(FLEET[1 + others[number % len(others)]], job_id, 0.0, FLEET)
        quarantine.failed(FLEET[1 + others[0]], JobId("poison"), 0.0, FLEET)
    assert set(quarantine.kept) == {A}
