"""The order against a slow oracle, and what it promises to tenants."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.scheduler.ordering import TIERS, Offer, Ordering, Standing, Waiting

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


def drain(order: Ordering, offer: Offer = anything) -> list[Waiting]:
    served = []
    while (job := order.next(offer, now=10.0)) is not None:
        order.started(job.job_id, now=10.0)
        served.append(job)
    return served


def served(order: Ordering) -> JobId | None:
    job = order.next(anything, now=10.0)
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


def oracle(jobs: list[Waiting]) -> list[Waiting]:
    """Tiers in order; each tenant's jobs, best first, in the places that its jobs took by arrival."""
    served = []
    for tier in TIERS:
        mine = [(job.queued_at, n, job) for n, job in enumerate(jobs) if job.tier == tier]
        places = [job.tenant_id for _, _, job in sorted(mine, key=lambda item: item[:2])]
        ranked = sorted(mine, key=lambda item: (-item[2].priority, *item[:2]))
        best = {tenant: [job for _, _, job in ranked if job.tenant_id == tenant] for tenant in TENANTS}
        served += [best[tenant].pop(0) for tenant in places]
    return served


@given(JOBS)
def test_serves_as_the_oracle_and_positions_come_true(jobs: Sequence[Drawn]) -> None:
    order, waitings = Ordering(), made(jobs)
    for job in waitings:
        order.add(job, now=10.0)
    expected = oracle(waitings)
    positions = {job.job_id: stands(order, job.job_id).position for job in waitings}
    assert positions == {job.job_id: n for n, job in enumerate(expected, start=1)}
    assert drain(order) == expected
    assert len(order) == 0


@given(JOBS)
def test_a_tenants_priorities_move_no_other_tenant(jobs: Sequence[Drawn]) -> None:
    plain, ranked = Ordering(), Ordering()
    for job in made(jobs):
        ranked.add(job, now=10.0)
    for job in made([(tier, tenant, 0, at) for tier, tenant, _, at in jobs]):
        plain.add(job, now=10.0)
    assert [j.tenant_id for j in drain(ranked)] == [j.tenant_id for j in drain(plain)]


@given(JOBS, st.randoms(use_true_random=False))
def test_removing_a_job_makes_nobodys_position_worse(jobs: Sequence[Drawn], rng: random.Random) -> None:
    order, waitings = Ordering(), made(jobs)
    for job in waitings:
        order.add(job, now=10.0)
    for gone in rng.sample(waitings, k=len(waitings) // 2):
        before = {j.job_id: stands(order, j.job_id).position for j in waitings if j.job_id in order}
        order.remove(gone.job_id)
        rest = [j for j in waitings if j.job_id in order]
        assert all(stands(order, j.job_id).position <= before[j.job_id] for j in rest)
    positions = sorted(stands(order, j.job_id).position for j in waitings if j.job_id in order)
    assert positions == list(range(1, len(positions) + 1))


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
    assert stands(order, "job_0003").units_ahead == pytest.approx(110.0)
    coming = order.standing_of_new("pro", 11.0)
    assert coming.position == 4
    assert coming.units_ahead == pytest.approx(120.0)
    assert order.standing_of_new("unheard of", 11.0).position == 5
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
