"""What the order promises to tenants; order/test_machine.py has any sequence of changes against an oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.scheduler.order import shares
from services.scheduler.order.ordering import TIERS, Offer, Ordering, Shares, Standing, Waiting

TENANTS = tuple(map(TenantId, "abc"))
MODELS = ("m@1", "n@1")


def waiting(number: int, **changes: Any) -> Waiting:
    fields: dict[str, Any] = {
        "tenant_id": TENANTS[0],
        "tier": "pro",
        "model_version": "m@1",
        "queued_at": float(number),
        "units": 10.0,
    }
    return Waiting(job_id=JobId(f"job_{number:04}"), **{**fields, **changes})


def stands(order: Ordering, job_id: str) -> Standing:
    standing = order.standing(JobId(job_id))
    assert standing is not None
    return standing


def anything(model_version: str) -> float:
    return 0.0


def drain(order: Ordering, offer: Offer = anything, times: int = 10**9, now: float = 10.0) -> list[Waiting]:
    served: list[Waiting] = []
    while len(served) < times and (job := order.next(offer, now)) is not None:
        order.started(job.job_id, now)
        served.append(job)
    return served


def served(order: Ordering, offer: Offer = anything) -> JobId | None:
    job = order.next(offer, now=10.0)
    return job.job_id if job else None


Drawn = tuple[str, TenantId, int, int]  # tier, tenant, priority, when it came
JOBS = st.lists(
    st.tuples(st.sampled_from(TIERS), st.sampled_from(TENANTS), st.integers(-3, 3), st.integers(0, 5)), max_size=30
)


def made(jobs: Sequence[Drawn]) -> list[Waiting]:
    return [
        waiting(n, tier=tier, tenant_id=tenant, priority=priority, queued_at=float(at))
        for n, (tier, tenant, priority, at) in enumerate(jobs)
    ]


@given(JOBS)
def test_all_are_served_and_positions_come_true(jobs: Sequence[Drawn]) -> None:
    order, waitings = Ordering(), made(jobs)
    for job in waitings:
        order.add(job, now=10.0)
    positions = {stands(order, job.job_id).position: job for job in waitings}
    assert [positions[n] for n in range(1, len(waitings) + 1)] == drain(order)
    assert len(order) == 0


@given(JOBS)
def test_a_tenants_priorities_move_no_other_tenant(jobs: Sequence[Drawn]) -> None:
    plain, ranked = Ordering(), Ordering()
    for job in made(jobs):
        ranked.add(job, now=10.0)
    for job in made([(tier, tenant, 0, at) for tier, tenant, _, at in jobs]):
        plain.add(job, now=10.0)
    assert [j.tenant_id for j in drain(ranked)] == [j.tenant_id for j in drain(plain)]


def test_a_model_nobody_takes_holds_up_no_other() -> None:
    order = Ordering()
    order.add(waiting(1, model_version="n@1", tier="enterprise"), now=10.0)
    order.add(waiting(2), now=10.0)
    assert [j.job_id for j in drain(order, {"m@1": 0.0}.get)] == ["job_0002"]
    assert order.depth("enterprise") == 1


def test_a_retry_waits_for_its_time_and_keeps_its_place() -> None:
    order = Ordering()
    order.add(waiting(1, not_before=20.0), now=10.0)
    order.add(waiting(2), now=10.0)
    assert (served(order), order.next_wake(), order.depth("pro")) == ("job_0002", 20.0, 2)
    assert stands(order, "job_0001").position == 1
    order.wake(19.9)
    assert order.next_wake() == 20.0
    order.wake(20.0)
    assert served(order) == "job_0001"
    assert order.next_wake() is None


def test_a_removed_retry_never_wakes() -> None:
    order = Ordering()
    order.add(waiting(1, not_before=20.0), now=10.0)
    assert order.remove(JobId("job_0001"))
    assert order.next_wake() is None
    order.wake(30.0)
    assert drain(order) == []
    assert not order.remove(JobId("job_0001"))


def test_units_ahead_and_the_place_of_a_job_that_would_come() -> None:
    order = Ordering()
    order.add(waiting(1, tier="enterprise", units=100.0), now=10.0)
    order.add(waiting(2, units=10.0), now=10.0)
    order.add(waiting(3, units=10.0), now=10.0)
    order.add(waiting(4, tier="free", units=1000.0), now=10.0)
    assert [j.job_id[-1] for j in drain(order.fork())] == ["1", "2", "4", "3"]
    assert stands(order, "job_0003").units_ahead == pytest.approx(1110.0)
    coming = order.standing_of_new("pro", 11.0, TENANTS[0])
    assert (coming.position, coming.units_ahead) == (5, pytest.approx(1120.0))
    assert order.standing_of_new("enterprise", 11.0).position == 5  # the one before it pays for two of pro
    assert order.standing_of_new("unheard of", 11.0).position == 4
    assert (order.oldest("pro"), order.oldest("anonymous")) == (2.0, None)


def test_a_fork_goes_its_own_way() -> None:
    order = Ordering()
    order.add(waiting(1), now=10.0)
    order.add(waiting(2, not_before=20.0), now=10.0)
    fork = order.fork()
    order.remove(JobId("job_0001"))
    order.add(waiting(3), now=10.0)
    fork.wake(20.0)
    assert [j.job_id for j in drain(fork)] == ["job_0001", "job_0002"]
    assert [j.job_id for j in drain(order)] == ["job_0003"]


def units_of(served: Sequence[Waiting], of: Callable[[Waiting], str]) -> dict[str, float]:
    return {name: sum(job.units for job in served if of(job) == name) for name in {of(job) for job in served}}


def backlog(order: Ordering, tenants: dict[str, dict[str, Any]], each: int = 200) -> None:
    for number in range(each):
        for place, (name, fields) in enumerate(tenants.items()):
            order.add(waiting(1000 * place + number, tenant_id=TenantId(name), queued_at=1.0, **fields), now=10.0)


def test_tiers_share_by_weight_and_none_is_strict() -> None:
    order = Ordering()
    backlog(order, {tier: {"tier": tier} for tier in TIERS}, each=400)
    given = units_of(drain(order, times=620), lambda job: job.tier)
    assert given == {
        tier: pytest.approx(200.0 * weight, abs=20.0) for tier, weight in zip(TIERS, (16, 8, 4, 2, 1), strict=True)
    }


def test_tenants_share_by_cost_and_weight_whatever_they_queued() -> None:
    order = Ordering()
    backlog(order, {"dear": {"units": 100.0}, "cheap": {"units": 10.0}, "double": {"units": 20.0, "weight": 2.0}})
    given = units_of(drain(order, times=130), lambda job: job.tenant_id)
    assert given["cheap"] == pytest.approx(given["dear"], abs=100.0)
    assert given["double"] == pytest.approx(2 * given["cheap"], abs=40.0)


def test_the_idle_save_nothing_up() -> None:
    order = Ordering()
    backlog(order, {"busy": {}})
    drain(order, times=100)
    for number in range(100):
        order.add(waiting(5000 + number, tenant_id=TenantId("idle")), now=10.0)
    assert units_of(drain(order, times=20), lambda job: job.tenant_id) == {"busy": 100.0, "idle": 100.0}


def test_a_charge_is_corrected_by_what_was_measured() -> None:
    order = Ordering()
    backlog(order, {"over": {"units": 100.0}, "right": {"units": 100.0}})
    for _ in range(60):
        (job,) = drain(order, times=1)
        order.settled(job.job_id, 50.0 if job.tenant_id == "over" else 100.0)
    served = drain(order, times=30)
    assert units_of(served, lambda job: job.tenant_id)["over"] == pytest.approx(1500.0, abs=100.0)
    done = [job for job in range(1, 30) if order.remove(JobId(f"job_{job:04}"))]
    assert done == []  # both were served evenly or more: none of the first is left


def test_whoever_was_charged_too_much_is_next_at_once() -> None:
    order = Ordering()
    backlog(order, {"dear": {"units": 100.0}, "cheap": {"units": 30.0}})
    (first, _) = drain(order, times=2)
    assert first.tenant_id == "dear"
    assert served(order) == "job_1001"  # cheap has 30, dear has 100 and is put in its place by them
    order.settled(first.job_id, 10.0)
    assert served(order) == "job_0001"


def test_what_models_could_not_be_had_for_is_made_up_for_a_while_only() -> None:
    order = Ordering()
    backlog(order, {"a": {"units": 5000.0}, "b": {"units": 5000.0, "model_version": "n@1"}})
    drain(order, {"m@1": 0.0}.get, times=100)
    served = drain(order, times=30)
    assert [job.tenant_id for job in served[:12]] == ["b"] * 12  # a minute of the reference device
    assert {job.tenant_id for job in served[14:]} == {"a", "b"}


def test_a_model_in_memory_goes_first_for_about_one_load() -> None:
    order = Ordering()
    backlog(order, {"cold": {"units": 10.0, "model_version": "n@1"}, "warm": {"units": 10.0}})
    served = drain(order, {"m@1": 0.0, "n@1": 50.0}.get, times=40)
    first_cold = next(n for n, job in enumerate(served) if job.tenant_id == "cold")
    assert first_cold == 6  # five are one load, and one more was begun within it
    given = units_of(served, lambda job: job.tenant_id)
    assert abs(given["cold"] - given["warm"]) <= 50.0 + 10.0


def test_within_a_tenant_a_model_in_memory_goes_first_for_about_one_load() -> None:
    order = Ordering()
    order.add(waiting(0, model_version="n@1", queued_at=0.5), now=10.0)
    backlog(order, {"a": {}}, each=20)
    served = drain(order, {"m@1": 0.0, "n@1": 50.0}.get, times=10)
    assert [job.model_version for job in served].index("n@1") == 6


def test_the_lane_is_for_those_who_waited_too_long_and_narrow() -> None:
    order = Ordering(Shares(waits_s={"enterprise": 60.0, "anonymous": 600.0}))
    backlog(order, {"big": {"tier": "enterprise", "units": 1000.0}, "small": {"tier": "anonymous", "units": 1000.0}})
    on_time = units_of(drain(order.fork(), times=100, now=500.0), lambda job: job.tier)
    late = units_of(drain(order, times=100, now=700.0), lambda job: job.tier)
    assert on_time["anonymous"] == pytest.approx(100_000 / 17, abs=1000.0)
    assert order.lane_used == 10
    assert late["anonymous"] == pytest.approx(10_000 + 90_000 / 17, abs=1000.0)
    assert (order.overdue("anonymous", 700.0), order.overdue("anonymous", 600.0)) == (200 - 15, 0)
    assert order.late["anonymous"] == 15


def test_jobs_nobody_can_run_wait_apart_with_a_reason() -> None:
    order = Ordering()
    order.add(waiting(1, model_version="n@1"), now=10.0)
    order.add(waiting(2), now=10.0)
    order.judge({"n@1": "no living worker can use its model"}.get, anew=False)
    order.add(waiting(3, model_version="n@1", tenant_id=TENANTS[1]), now=10.0)
    asked: list[str] = []

    def heard(model: str) -> float:
        asked.append(model)
        return 0.0

    assert served(order, heard) == "job_0002"
    assert asked == ["m@1"]
    assert (order.reason(JobId("job_0001")), order.reason(JobId("job_0002"))) == (order.apart["n@1"], None)
    assert (order.depth("pro"), stands(order, "job_0003").position) == (3, 3)
    order.judge(lambda model: asked.append(model), anew=False)
    assert asked == ["m@1"]  # judged already
    order.judge(lambda model: None, anew=True)
    assert {job.job_id for job in drain(order)} == {"job_0001", "job_0002", "job_0003"}


def test_places_in_a_long_queue_are_about_right() -> None:
    order = Ordering()
    backlog(order, {"a": {"tier": "pro"}, "b": {"tier": "pro", "weight": 3.0}, "c": {"tier": "free"}}, each=300)
    stood = {JobId(f"job_{number:04}"): stands(order, f"job_{number:04}") for number in (50, 250, 1150, 2010, 2250)}
    coming = order.standing_of_new("pro", 10.0, TenantId("a"))
    served = drain(order)
    for job_id, standing in stood.items():
        place = next(n for n, job in enumerate(served, 1) if job.job_id == job_id)
        assert standing.position == pytest.approx(place, abs=15)
        assert standing.units_ahead == pytest.approx(10.0 * (place - 1), abs=150.0)
    assert coming.position == pytest.approx(601 + 150, abs=15)


def test_shares_are_read_whole() -> None:
    with pytest.raises(ValueError, match="gold=1, free=0, pro=9, payg=x, payg"):
        shares.read(("pro=8", "gold=1", "free=0", "pro=9", "payg=x", "payg"))
    assert shares.given(("pro=9",), ("free=10",)).weight("pro") == 9.0
    assert shares.given((), ("free=10",)).wait_s("free") == 10.0
    assert shares.given((), ()) == Shares()


def test_the_tenants_that_want_nothing_are_forgotten() -> None:
    order = Ordering()
    for number in range(1000):
        order.add(waiting(number, tenant_id=TenantId(f"t{number}"), queued_at=1.0), now=10.0)
        for job in drain(order):
            order.settled(job.job_id, 10.0)
    assert len(order._tiers.by_name["pro"].tenants) == 0


def test_retries_that_rest_count_among_those_that_wait() -> None:
    ordering = Ordering()
    for name, not_before in (("a", 5.0), ("b", 9.0), ("c", 9.0)):
        ordering.add(Waiting(JobId(name), TenantId("t"), "pro", "m@1", 0.0, 1.0, not_before=not_before), 0.0)
    twin = ordering.fork()
    assert (ordering.depth("pro"), ordering.depth("free")) == (3, 0)
    assert ordering.remove(JobId("b"))
    assert ordering.depth("pro") == 2
    ordering.wake(5.0)
    assert ordering.depth("pro") == 2
    ordering.remove(JobId("a"))
    assert (ordering.depth("pro"), twin.depth("pro")) == (1, 3)


def test_a_job_that_starts_twice_without_a_word_between_is_counted_once() -> None:
    order = Ordering()
    for _ in range(2):
        order.add(waiting(1, units=100.0), now=10.0)
        assert [job.job_id for job in drain(order)] == [waiting(1).job_id]
    order.settled(waiting(1).job_id, 100.0)
    assert not order._tiers.by_name["pro"].tenants, "nobody is counted as served for ever"


def test_of_what_a_tenant_has_for_models_in_memory_the_first_goes_before_a_model_that_must_be_loaded() -> None:
    order = Ordering()
    order.add(waiting(1, model_version="n@1", priority=1), now=10.0)
    order.add(waiting(2, shape="m@1 14 1", priority=-1), now=10.0)
    order.add(waiting(3, shape="m@1 14 2", priority=-1), now=10.0)
    order.add(waiting(4, shape="m@1 14 1"), now=10.0)
    offers = {"m@1 14 1": 0.0, "m@1 14 2": 0.0, "n@1": 100.0}
    assert [job.job_id[-1] for job in drain(order, offers.get)] == ["4", "2", "3", "1"]
