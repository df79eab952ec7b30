"""Any sequence of what can happen to the queue, beside the plain telling of it in naive.py."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import Ordering, Shares, Waiting
from tests.unit.services.scheduler.order.naive import Naive

MODELS = ("m@1", "n@1", "o@1")
TIERS = ("enterprise", "pro", "free")
SHARES = Shares(waits_s={"enterprise": 5.0, "pro": 20.0, "free": 40.0})
WEIGHTS = {TenantId("a"): 1.0, TenantId("b"): 1.0, TenantId("c"): 4.0}
OFFERS = st.fixed_dictionaries({model: st.sampled_from([0.0, 0.0, 70.0, 300.0, None]) for model in MODELS})


def played(order: Ordering) -> list[JobId]:
    """Start all there is."""
    started = []
    while (job := order.next(dict.fromkeys(MODELS, 0.0).get, 1e9)) is not None:
        order.started(job.job_id, 1e9)
        started.append(job.job_id)
    return started


class Queue(RuleBasedStateMachine):
    """One order and its oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.order, self.naive = Ordering(SHARES), Naive(SHARES)
        self.resting: list[Waiting] = []
        self.now, self.count, self.started, self.by_lane = 1000.0, 0, 0, 0

    def made(self, tier: str, tenant: TenantId, model: str, **fields: Any) -> Waiting:
        self.count += 1
        return Waiting(JobId(f"job_{self.count}"), tenant, tier, model, self.now, weight=WEIGHTS[tenant], **fields)

    @rule(
        tier=st.sampled_from(TIERS),
        tenant=st.sampled_from(list(WEIGHTS)),
        model=st.sampled_from(MODELS),
        units=st.sampled_from([0.0, 37.0, 90.0, 211.0]),
        priority=st.sampled_from([0, 0, 1, -1]),
        times=st.integers(1, 8),
    )
    def add(self, tier: str, tenant: TenantId, model: str, units: float, priority: int, times: int) -> None:
        for _ in range(times):
            job = self.made(tier, tenant, model, units=units, priority=priority)
            self.order.add(job, self.now)
            self.order.add(job, self.now)  # told twice
            self.naive.add(job)

    @rule(tier=st.sampled_from(TIERS), tenant=st.sampled_from(list(WEIGHTS)), wait_s=st.integers(1, 30))
    def retry(self, tier: str, tenant: TenantId, wait_s: int) -> None:
        self.resting.append(self.made(tier, tenant, "m@1", units=50.0, not_before=self.now + wait_s))
        self.order.add(self.resting[-1], self.now)

    @rule(passed_s=st.sampled_from([0.5, 7.0, 30.0]))
    def wait(self, passed_s: float) -> None:
        self.now += passed_s
        self.order.wake(self.now)
        due = sorted((j for j in self.resting if j.not_before <= self.now), key=lambda j: j.not_before)
        for job in due:
            self.naive.add(job)
            self.resting.remove(job)
        assert self.order.next_wake() == min((job.not_before for job in self.resting), default=None)

    @rule(offers=OFFERS, times=st.integers(1, 12))
    def start(self, offers: dict[str, float | None], times: int) -> None:
        for _ in range(times):
            usual, late = self.naive.choices(offers.get, self.now)
            used = self.order.lane_used
            job = self.order.next(offers.get, self.now)
            assert (job is None) == (not usual)  # somebody is served whenever somebody can be
            if job is None:
                return
            assert self.order.next(offers.get, self.now) is job  # looking changes nothing
            self.order.started(job.job_id, self.now)
            by_lane = self.order.lane_used > used
            assert job in (late if by_lane else usual)
            assert by_lane or not late or self.naive.tied  # the lane is used when it may be
            self.naive.start(job, by_lane=by_lane)
            self.started, self.by_lane = self.started + 1, self.by_lane + by_lane

    @precondition(lambda self: self.naive.running)
    @rule(data=st.data(), factor=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    def settle(self, data: st.DataObject, factor: float) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.naive.running)))
        actual = self.naive.running[job_id][0].units * factor
        self.naive.settle(job_id, actual)
        self.order.settled(job_id, actual)
        self.order.settled(job_id, 10 * actual)  # told twice

    @precondition(lambda self: self.naive.queued)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.naive.queued))
        self.naive.leave(job)
        assert self.order.remove(job.job_id)
        assert not self.order.remove(job.job_id)

    @rule(possible=st.sets(st.sampled_from(MODELS)))
    def judge(self, possible: set[str]) -> None:
        self.order.judge(lambda model: None if model in possible else "nobody has it", anew=True)
        for model in [model for model in MODELS if model in self.naive.apart and model in possible]:
            self.naive.return_model(model)
        assert not possible & set(self.order.apart)
        assert {job.model_version for job in self.naive.queued} - possible <= set(self.order.apart)
        self.naive.apart = set(self.order.apart)

    @rule()
    def fork(self) -> None:
        one, other = self.order.fork(), self.order.fork()
        waiting = {job.job_id for job in self.naive.queued if job.model_version not in self.naive.apart}
        self.start(dict.fromkeys(MODELS, 0.0), 3)
        self.add("pro", TenantId("a"), "m@1", 10.0, 0, 2)
        first = played(one)
        assert first == played(other)  # deterministic, and apart from what happened to the original
        assert set(first) == waiting
        assert len(first) == len(waiting)

    @invariant()
    def nothing_is_lost(self) -> None:
        waiting = {job.job_id for job in (*self.naive.queued, *self.resting)}
        assert len(self.order) == len(waiting)
        assert all(job_id in self.order for job_id in waiting)
        for tier in TIERS:
            mine = [job for job in self.naive.queued if job.tier == tier]
            assert self.order.depth(tier) == len(mine) + sum(job.tier == tier for job in self.resting)
            late = [job for job in mine if int(job.queued_at) + 1 + SHARES.wait_s(tier) <= self.now]
            assert self.order.overdue(tier, self.now) == len(late)
            assert int(self.order.oldest(tier) or 0.0) == int(min((j.queued_at for j in mine), default=0.0))

    @invariant()
    def the_lane_is_narrow(self) -> None:
        assert self.by_lane * 10 <= self.started


Queue.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestQueue = Queue.TestCase
