"""A tenant with as much on devices as may be there waits, holds up nobody, and comes back when a job ends."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import Ordering, Waiting


def waiting(name: str, tenant: str = "a", model: str = "m@1", **more: Any) -> Waiting:
    fields = {"queued_at": 0.0, "units": 100.0, "running_images": 1} | more
    return Waiting(JobId(name), TenantId(tenant), "free", model, **fields)


def ordering(*jobs: Waiting) -> Ordering:
    order = Ordering()
    for job in jobs:
        order.add(job, 0.0)
    return order


def start(order: Ordering) -> str | None:
    found = order.next(lambda _line: 0.0, 0.0)
    if found is not None:
        order.started(found.job_id, 0.0)
    return found.job_id if found else None


def test_of_a_tenants_jobs_one_runs_at_a_time_by_priority_and_arrival():
    order = ordering(waiting("first"), waiting("second"), waiting("urgent", priority=5))
    assert (start(order), start(order)) == ("urgent", None)
    assert len(order) == 2
    order.settled(JobId("urgent"), 100.0)
    assert (start(order), start(order)) == ("first", None)
    order.settled(JobId("first"), 100.0)
    assert start(order) == "second"


def test_others_go_on_meanwhile():
    order = ordering(*(waiting(f"a{n}") for n in range(3)), *(waiting(f"b{n}", "b", units=9000.0) for n in range(2)))
    started = {start(order), start(order)}
    assert started == {"a0", "b0"}
    assert start(order) is None
    order.settled(JobId("b0"), 9000.0)
    assert start(order) == "b1"  # although it was given far more


def test_a_job_of_more_pictures_than_may_run_runs_alone():
    order = ordering(waiting("wide", images=4, running_images=2), waiting("next", running_images=2))
    assert (start(order), start(order)) == ("wide", None)
    order.settled(JobId("wide"), 100.0)
    assert start(order) == "next"


def test_jobs_that_run_since_an_earlier_leader_count():
    order = ordering(waiting("next"))
    order.taken_up(waiting("runs"))
    assert start(order) is None
    order.settled(JobId("runs"), 100.0)
    assert start(order) == "next"


def test_a_limit_that_was_raised_holds_with_the_next_job():
    order = ordering(waiting("one"), waiting("two"))
    assert (start(order), start(order)) == ("one", None)
    order.add(waiting("three", running_images=3), 0.0)
    assert (start(order), start(order)) == ("two", "three")


def test_a_full_tenants_jobs_wait_apart_like_others_and_come_back():
    order = ordering(waiting("one"), waiting("two"), waiting("lost", model="gone@1"))
    assert start(order) == "one"
    order.judge(lambda line: "nobody has it" if line == "gone@1" else None, anew=True)
    assert order.reason(JobId("lost")) == "nobody has it"
    order.settled(JobId("one"), 1.0)
    assert start(order) == "two"
    order.settled(JobId("two"), 1.0)
    order.judge(lambda _line: None, anew=True)
    assert (order.reason(JobId("lost")), start(order)) == (None, "lost")


def test_a_fork_starts_from_the_same_and_changes_nothing():
    order = ordering(waiting("one"), waiting("two"))
    start(order)
    twin = order.fork()
    twin.settled(JobId("one"), 100.0)
    assert start(twin) == "two"
    assert start(order) is None


MOVES = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60)


@given(MOVES, st.integers(1, 3))
def test_never_more_than_may_run_and_never_idle_without_need(moves: list[tuple[str, bool]], most: int):
    order, running, left = Ordering(), dict[str, str](), dict[str, str]()
    for number, (tenant, ends) in enumerate(moves):
        if ends and running:
            name = next(iter(running))
            del running[name]
            order.settled(JobId(name), 50.0)
        else:
            left[f"job_{number}"] = tenant
            order.add(waiting(f"job_{number}", tenant, running_images=most), 0.0)
        while (started := start(order)) is not None:
            running[started] = left.pop(started)
        by_tenant = [list(running.values()).count(each) for each in "abc"]
        assert max(by_tenant) <= most
        assert all(by_tenant["abc".index(each)] == most for each in left.values())


def test_every_waiting_job_stands_somewhere_full_or_not():
    order = ordering(*(waiting(f"a{n}") for n in range(3)), waiting("b0", "b"))
    assert sorted(order.standing(JobId(name)).position for name in ("a0", "a1", "a2", "b0")) == [1, 2, 3, 4]
    start(order)
    order.add(waiting("later", not_before=50.0), 0.0)
    order.add(waiting("b1", "b", not_before=50.0), 0.0)
    for name in ("a1", "a2", "b0", "b1", "later"):
        standing = order.standing(JobId(name))
        assert standing is not None
        assert 1 <= standing.position <= 6
