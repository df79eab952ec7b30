from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.rpc.status import REASONS
from services.scheduler.job import Change, Failure
from services.scheduler.retries.retry import MAX_COUNTED_ATTEMPTS, Again, Fault, Mishap, decide, dies_of, timed_out
from services.scheduler.settlement.charging import charge

FREE = {Fault.MODEL_UNAVAILABLE, Fault.REFUSED, Fault.DRAINING, Fault.RESTARTED}


def decided(fault: Fault, counted: int = 1, *, oom: int = 0, jitter: float = 1.0) -> Again | Failure:
    return decide(Mishap(fault, ""), counted=counted, out_of_memory_before=oom, jitter=jitter)


def again(fault: Fault, counted: int = 1, jitter: float = 1.0) -> Again:
    answer = decided(fault, counted, jitter=jitter)
    assert isinstance(answer, Again)
    return answer


def failed(answer: Again | Failure) -> str:
    assert isinstance(answer, Failure)
    return answer.reason


@given(st.sampled_from(Fault), st.integers(0, 9), st.integers(0, 3), st.floats(0, 1))
def test_every_answer_ends_or_counts_or_is_free(fault: Fault, counted: int, oom: int, jitter: float) -> None:
    answer = decided(fault, counted, oom=oom, jitter=jitter)
    if isinstance(answer, Failure):
        assert answer.reason in REASONS
    if isinstance(answer, Failure) and fault is not Fault.BLOCKED:
        assert "Nothing was charged." in answer.message
        assert answer.metadata["charged"] == "false"
    elif isinstance(answer, Again) and answer.counted:
        assert counted < MAX_COUNTED_ATTEMPTS
        assert 0 <= answer.wait_s <= 30.0
    elif isinstance(answer, Again):
        assert fault in FREE


@pytest.mark.parametrize("fault", sorted(FREE, key=str))
def test_what_is_not_the_jobs_fault_never_kills_it(fault: Fault) -> None:
    assert not again(fault, 99).counted


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.WORKER_LOST, "WORKER_LOST"),
        (Fault.TRANSIENT, "GENERATION_FAILED"),
        (Fault.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY"),
    ],
)
def test_the_third_counted_attempt_is_the_last(fault: Fault, reason: str) -> None:
    assert again(fault, 2).counted
    assert failed(decided(fault, 3)) == reason


def test_invalid_ends_at_once() -> None:
    invalid = Mishap(Fault.INVALID, "INVALID_DIMENSIONS", "too wide")
    assert failed(decide(invalid, counted=1, jitter=0)) == "INVALID_DIMENSIONS"


def test_out_of_memory_goes_where_there_is_more_then_alone_then_fails_with_what_fits() -> None:
    first, second = again(Fault.OUT_OF_MEMORY), decided(Fault.OUT_OF_MEMORY, 2, oom=1)
    assert (first.roomier, first.alone, first.elsewhere) == (True, False, True)
    assert isinstance(second, Again)
    assert (second.roomier, second.alone, second.elsewhere) == (True, True, True)
    told = "the device's memory did not suffice for 2048×2048; 1024×1024 fits"
    third = decide(Mishap(Fault.OUT_OF_MEMORY, "", told), counted=3, out_of_memory_before=2, jitter=0)
    assert isinstance(third, Failure)
    assert third.reason == "GPU_OUT_OF_MEMORY"
    assert "1024×1024 fits" in third.message
    assert "may fit" not in third.message
    assert "may fit" in decided(Fault.OUT_OF_MEMORY, 3, oom=2).message


@pytest.mark.parametrize("fault", [Fault.TRANSIENT, Fault.WORKER_LOST, Fault.OUT_OF_MEMORY])
def test_what_a_worker_in_quarantine_fails_does_not_count(fault: Fault) -> None:
    answer = decide(Mishap(fault, ""), counted=3, jitter=0.5, worker_at_fault=True)
    assert isinstance(answer, Again)
    assert not answer.counted


@pytest.mark.parametrize("fault", list(Fault))
def test_what_might_succeed_another_time_is_a_dead_letter(fault: Fault) -> None:
    assert dies_of(fault) is (fault not in (Fault.INVALID, Fault.BLOCKED))


def test_what_is_not_allowed_is_never_tried_again_and_the_drawing_is_charged() -> None:
    told = Mishap(Fault.BLOCKED, "SAFETY_PROMPT_BLOCKED", "Not here.")
    assert decide(told, counted=1, jitter=0) == Failure(told.reason, told.message)
    assert failed(decided(Fault.BLOCKED)) == "SAFETY_OUTPUT_BLOCKED"
    assert charge(Change.FAIL, 100.0, 90.0, reason="SAFETY_OUTPUT_BLOCKED").charged_units == 90.0
    assert charge(Change.FAIL, 100.0, 900.0, reason="SAFETY_OUTPUT_BLOCKED").charged_units == 150.0
    assert charge(Change.FAIL, 100.0, 0.0, reason="SAFETY_PROMPT_BLOCKED").charged_units == 0.0
    assert charge(Change.FAIL, 100.0, 90.0, reason="GPU_OUT_OF_MEMORY").charged_units == 0.0


def test_only_transient_faults_wait_and_longer_each_time() -> None:
    assert [again(Fault.TRANSIENT, n).wait_s for n in (1, 2)] == [2.0, 4.0]
    assert again(Fault.TRANSIENT, jitter=0.0).wait_s == 0.0
    assert again(Fault.WORKER_LOST).wait_s == 0.0


def test_the_run_limit_is_twenty_estimates_and_a_minute_at_least() -> None:
    assert timed_out(60.0).reason == "GENERATION_TIMEOUT"


@given(
    st.sampled_from([Change.SUCCEED, Change.CANCEL, Change.FAIL, Change.EXPIRE]), st.floats(0, 1e6), st.floats(0, 1e6)
)
def test_nobody_pays_for_our_faults_nor_above_the_cap(change: Change, estimate: float, gpu_ms: float) -> None:
    made = charge(change, estimate, gpu_ms)
    assert made.actual_units == round(gpu_ms, 1)
    if change in (Change.FAIL, Change.EXPIRE):
        assert made.charged_units == 0
    else:
        assert made.charged_units == min(made.actual_units, round(1.5 * estimate, 1))
    assert bool(made.reason) or made.charged_units == made.actual_units


def test_a_model_that_stays_away_is_asked_for_less_and_less_often() -> None:
    away = Mishap(Fault.MODEL_UNAVAILABLE, "MODEL_UNUSABLE")
    answers = [decide(away, counted=1, uncounted=n, jitter=0.5) for n in (0, 1, 2, 50)]
    assert [isinstance(a, Again) and not a.counted and a.wait_s for a in answers] == [5.0, 10.0, 20.0, 60.0]


@given(st.sampled_from([Fault.TRANSIENT, Fault.WORKER_LOST, Fault.OUT_OF_MEMORY]), st.integers(1, 99))
def test_an_attempt_that_advanced_a_checkpoint_does_not_count(fault: Fault, counted: int) -> None:
    mishap = Mishap(fault, "")
    answer = decide(mishap, counted=counted, jitter=0.5, advanced=True)
    assert isinstance(answer, Again)
    assert not answer.counted
    assert answer.elsewhere


def test_nothing_that_advanced_saves_what_can_never_succeed() -> None:
    invalid = decide(Mishap(Fault.INVALID, ""), counted=1, jitter=0, advanced=True)
    memory = decide(Mishap(Fault.OUT_OF_MEMORY, ""), counted=1, out_of_memory_before=2, jitter=0, advanced=True)
    assert (failed(invalid), failed(memory)) == ("INVALID_REQUEST", "GPU_OUT_OF_MEMORY")
