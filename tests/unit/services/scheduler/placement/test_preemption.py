from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import TIERS, Waiting
from services.scheduler.order.shares import rank as rank_of
from services.scheduler.placement.placement import Seat
from services.scheduler.placement.preemption import (
    MOST_PARKED,
    MOST_PARKS,
    PARKED_S,
    Parked,
    Running,
    goes_on,
    may_park,
    victim,
)
from tests.unit.services.scheduler.fakes import MODEL, record

M = MODEL.pinned
NOW = 1000.0


def waiting(tier: str = "enterprise", queued_at: float = NOW, model: str = M) -> Waiting:
    return Waiting(JobId("w"), TenantId("t"), tier, model, queued_at, 100.0)


def running(job_id: str, tier: str = "free", since: float = 0.0, worker: str = "a", warm: bool = True) -> Running:
    return Running(JobId(job_id), tier, Seat(record(worker, resident=(M,) if warm else ()), assigned=1), since)


def test_the_lowest_tier_and_the_latest_begun_makes_room_where_the_model_is() -> None:
    jobs = [running("pro", "pro", 9.0), running("old", since=1.0), running("new", since=2.0)]
    assert victim(waiting(), jobs) == jobs[2]
    cold = running("cold", since=5.0, warm=False)
    assert victim(waiting(), [cold, jobs[0]]) == jobs[0]
    assert victim(waiting(), [cold]) == cold
    assert victim(waiting(model="other@1"), jobs) is None


def test_who_was_begun_while_the_other_waited_keeps_its_row() -> None:
    assert victim(waiting(queued_at=NOW), [running("a", since=NOW + 1.0)]) is None


def test_only_of_a_worker_that_is_full_and_not_too_often() -> None:
    full = Seat(record(rows=2), assigned=2)
    assert may_park(MOST_PARKS - 1, replace(full, parked=MOST_PARKED - 1))
    assert not may_park(MOST_PARKS, full)
    assert not may_park(0, replace(full, parked=MOST_PARKED))
    assert not may_park(0, Seat(record(rows=2), assigned=3))
    assert not may_park(0, Seat(record(rows=2), assigned=2, drained=True))


TIER = st.sampled_from((*TIERS, "odd"))
RUNNING = st.builds(running, st.uuids().map(str), TIER, st.floats(0, 2000), st.sampled_from("abc"), st.booleans())


@given(TIER, st.floats(0, 2000), st.lists(RUNNING, max_size=8))
def test_an_equal_or_higher_tier_never_makes_room(tier: str, queued_at: float, jobs: list[Running]) -> None:
    chosen = victim(waiting(tier, queued_at), jobs)
    able = [job for job in jobs if rank_of(job.tier) > rank_of(tier) and job.since < queued_at]
    assert chosen in able if able else chosen is None
    assert chosen is None or rank_of(chosen.tier) == max(rank_of(job.tier) for job in able if is_near(job, chosen))


def is_near(job: Running, chosen: Running) -> bool:
    return bool(job.worker.resident) == bool(chosen.worker.resident)


PARKED = st.builds(
    lambda job_id, tier, since: Parked(JobId(job_id), tier, record(rows=2), since),
    st.uuids().map(str),
    TIER,
    st.floats(NOW - 2 * PARKED_S, NOW),
)


@given(st.lists(PARKED, max_size=5), st.integers(0, 3), st.one_of(st.none(), TIER))
def test_a_free_row_is_never_left_empty_and_nobody_waits_for_ever(
    parked: list[Parked], assigned: int, rival: str | None
) -> None:
    again = goes_on(parked, Seat(record(rows=2), assigned), rival, NOW)
    late = [job for job in parked if NOW - job.since >= PARKED_S]
    if late and assigned <= 2:
        assert again in late
    elif parked and assigned < 2:
        best = min(rank_of(job.tier) for job in parked)
        goes_first = rival is not None and rank_of(rival) < best
        assert (again is None) == goes_first
        assert again is None or rank_of(again.tier) == best
    else:
        assert again is None


def test_a_worker_that_is_gone_or_rests_resumes_nobody() -> None:
    job = Parked(JobId("j"), "free", record(), NOW - 1.0)
    assert goes_on([job], None, None, NOW) is None
    assert goes_on([job], Seat(record(), resting=True), None, NOW) is None
