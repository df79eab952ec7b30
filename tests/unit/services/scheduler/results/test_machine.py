"""Any sequence of alike requests, ends, cancels, losses and restarts, beside a plain telling of what becomes of each.

The telling looks through all jobs at every step. Which waiting job begins when is the order's business, and is taken as
it comes; who shares a run, ends with it, inherits it and pays is told beforehand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from libs.clients.modelserver import AttemptDone, AttemptFailed, Order, Progress
from libs.generation.attempt import FailureKind, ImageStored
from libs.generation.spec import GenerationSpec
from libs.ids import JobId, TenantId, UploadId
from services.scheduler.job import Job, JobState
from services.scheduler.results.cache_key import cache_key
from tests.unit.services.scheduler.fakes import MODEL, STEPS, Bench, FakeModelServer, record, silence, spec

T = TypeVar("T")

TENANTS = (TenantId("acme"), TenantId("zeta"))
DRAWN, STOPPED, WITHHELD = 250.0, 40.0, 99.0  # units of a run that ends so
UPLOAD = UploadId("upl_01HF7YAT00FBS8B68XHAGRB7X1")
FINAL = ("completed", "failed", "cancelled", "expired")


def alike(one: Job, other: Job) -> bool:
    """Whether one picture answers both, in plain words."""
    if "bypass" in (one.spec.cache, other.spec.cache) or one.spec.seed != other.spec.seed:
        return False
    if one.spec.input_image != other.spec.input_image:
        return False
    return not one.spec.input_image or one.tenant_id == other.tenant_id


class Coalescing(RuleBasedStateMachine):
    """A scheduler on a worker that says nothing by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.bench, self.server = Bench(), FakeModelServer(silence)
        self.jobs: dict[JobId, Job] = {}  # as the store has them, in the order they came
        self.joined: dict[JobId, int] = {}  # in which order they joined their runs
        self.count, self.owed = 0, 0.0
        self.life = self.bench.running()
        self.do(self.begin())

    async def begin(self) -> None:
        await self.life.__aenter__()
        ready = record(rows=1)
        self.bench.servers[ready.address] = self.server
        await self.bench.directory.set(ready)

    def do(self, action: Coroutine[Any, Any, T]) -> T:
        answer = self.loop.run_until_complete(action)
        self.loop.run_until_complete(self.rest())
        return answer

    async def rest(self) -> None:
        for _ in range(4):
            await self.bench.clock.settle()
        before, self.jobs = self.jobs, {}
        for job_id in before:
            found = await self.bench.store.get(job_id)
            assert found is not None
            self.jobs[job_id] = found
        for job_id in sorted(before, key=lambda each: self.joined.get(each, 0)):
            if self.jobs[job_id].drawn_by != before[job_id].drawn_by and self.jobs[job_id].open:
                self.count += 1
                self.joined[job_id] = self.count

    def teardown(self) -> None:
        self.loop.run_until_complete(self.life.__aexit__(None, None, None))
        self.loop.close()

    # What is told beforehand

    def answer(self, job: Job) -> tuple[str, JobId]:
        """Tell what becomes of a new job."""
        drawn = [each for each in reversed(self.jobs.values()) if each.cache == "MISS" and alike(each, job)]
        for source in drawn:
            if source.state is JobState.SUCCEEDED and job.spec.cache == "use":
                return "HIT", source.id
        for run in drawn:
            place = run.tenant_id == job.tenant_id and run.spec.priority >= job.spec.priority
            if run.open and job.spec.cache == "use" and (run.state is JobState.RUNNING or place):
                return "JOINED", run.id
        return "MISS", JobId("")

    def joiners(self, run: JobId) -> list[JobId]:
        waiting = [job.id for job in self.jobs.values() if job.open and job.drawn_by == run]
        return sorted(waiting, key=lambda each: self.joined[each])

    def order(self, job: Job) -> Order:
        (found,) = [order for order in self.server.orders if (order.job_id, order.attempt) == job.run]
        return found

    # What happens

    @initialize(picture=st.sampled_from(["", UPLOAD]))
    def several(self, picture: UploadId) -> None:
        for _ in range(3):
            self.submit_one(1, TENANTS[0], 0, "use", picture, None)

    @rule(
        seed=st.sampled_from([1, 1, 2, 3]),
        tenant=st.sampled_from(TENANTS),
        priority=st.sampled_from([0, 0, 1]),
        mode=st.sampled_from(["use", "use", "use", "refresh", "bypass"]),
        picture=st.sampled_from(["", UPLOAD]),
        deadline_s=st.sampled_from([None, None, 30.0]),
        times=st.integers(1, 3),
    )
    def submit(self, times: int, **asked: Any) -> None:
        for _ in range(times):
            self.submit_one(**asked)

    def submit_one(
        self, seed: int, tenant: TenantId, priority: int, mode: str, picture: UploadId, deadline_s: float | None
    ) -> None:
        self.do(self.bench.clock.advance(0.01))
        asked: GenerationSpec = spec(seed=seed, priority=priority, cache=mode, input_image=picture)
        now = self.bench.clock.now()
        wanted = {
            "spec": asked,
            "tenant_id": tenant,
            "cache_key": cache_key(asked, MODEL.pinned, tenant, {"b"}, tenant_only=False),
            "deadline_at": None if deadline_s is None else now + deadline_s,
        }
        accepted = self.loop.run_until_complete(self.bench.submit(**wanted))
        assert (accepted.cache, accepted.drawn_by) == self.answer(accepted)
        self.count += 1
        self.jobs[accepted.id], self.joined[accepted.id] = accepted, self.count
        self.do(self.rest())

    @precondition(lambda self: self.running())
    @rule(data=st.data(), end=st.sampled_from(["drawn", "drawn", "withheld"]), progress=st.booleans())
    def end(self, data: st.DataObject, end: str, progress: bool) -> None:
        """A run comes to an end that all who wait for it share."""
        run, order = self.pick(data, self.running())
        others = self.joiners(run.id)
        self.count += 1
        image = ImageStored(0, f"{self.count:064x}", "image/png", 128, 128, 7, 9)
        if progress:
            self.server.say(order, Progress(order.attempt, 1, STEPS, 0.1))
        if end == "drawn":
            self.server.say(order, image, AttemptDone(DRAWN))
        else:
            self.server.say(order, AttemptFailed(FailureKind.BLOCKED, "SAFETY_OUTPUT_BLOCKED", "No.", WITHHELD))
        self.do(self.rest())
        self.owed += DRAWN if end == "drawn" else WITHHELD
        state = JobState.SUCCEEDED if end == "drawn" else JobState.FAILED
        for job_id in (run.id, *others):
            job = self.jobs[job_id]
            assert (job.state, job.images) == (state, (image,) if end == "drawn" else ())
            assert bool(job.charged_units) == (job_id == run.id)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), lost=st.booleans())
    def fail(self, data: st.DataObject, lost: bool) -> None:
        """An attempt comes to nothing by no fault of the request: it is drawn again, or its joiners are on their own."""
        run, order = self.pick(data, self.running())
        others = self.joiners(run.id)
        if lost:
            self.server.lose(order)
        else:
            self.server.say(order, AttemptFailed(FailureKind.TRANSIENT, "GENERATION_FAILED", "It broke.", 9.0))
        self.do(self.bench.clock.advance(0.1))
        assert self.jobs[run.id].state in (JobState.QUEUED, JobState.FAILED, JobState.RUNNING) or self.late(run)
        for job_id in others:
            job = self.jobs[job_id]
            assert job.open or self.late(job)
            assert not job.open or (job.drawn_by == run.id) == self.jobs[run.id].open

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def cancel_run(self, data: st.DataObject) -> None:
        self.cancel_one(data.draw(st.sampled_from(self.running())))

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.cancel_one(data.draw(st.sampled_from(self.open())))

    def cancel_one(self, job: Job) -> None:
        others, told = self.joiners(job.id), len(self.server.cancelled)
        self.do(self.bench.scheduler.desk.cancel(job.id, job.tenant_id))
        stopped = self.server.cancelled[told:]
        if job.state is JobState.RUNNING and not others:
            assert stopped == [job.run]
            self.server.say(self.order(job), AttemptFailed(FailureKind.CANCELLED, "", "", STOPPED))
            self.do(self.rest())
            self.owed += STOPPED
        else:
            assert stopped == []
        assert self.jobs[job.id].state is JobState.CANCELLED
        if job.state is JobState.RUNNING and others:
            heir, *rest = others
            assert (self.jobs[heir].state, self.jobs[heir].run) == (JobState.RUNNING, job.run)
            assert {self.jobs[each].drawn_by for each in rest} <= {heir}
        assert all(self.jobs[each].open or self.late(self.jobs[each]) for each in others)

    @rule(seconds=st.sampled_from([1.0, 31.0, 400.0]))
    def wait(self, seconds: float) -> None:
        before = self.jobs
        self.do(self.bench.clock.advance(seconds))
        for job_id, job in before.items():
            if self.jobs[job_id].state is JobState.EXPIRED and job.open:
                assert job.state is JobState.QUEUED
                assert self.late(job)
                run = before.get(job.drawn_by, job)
                assert run.state is not JobState.RUNNING  # who waits for what is drawn does not expire

    @rule()
    def restart(self) -> None:
        before = self.jobs
        self.do(self.life.__aexit__(None, None, None))
        self.life = self.bench.running()
        self.do(self.begin())
        self.joined = {job_id: number for number, job_id in enumerate(self.jobs, start=1)}
        self.count = max(self.count, len(self.jobs))
        for job_id, job in before.items():
            if job.state is JobState.RUNNING:  # nothing that runs is drawn again
                assert (self.jobs[job_id].state, self.jobs[job_id].run) == (JobState.RUNNING, job.run)

    # What always holds

    @invariant()
    def a_run_is_one_jobs_and_a_joiner_waits_for_what_is_open_and_alike(self) -> None:
        runs = [job.run for job in self.jobs.values() if job.state is JobState.RUNNING]
        assert len(set(runs)) == len(runs)
        for job in self.open():
            if job.cache == "JOINED":
                run = self.jobs[job.drawn_by]
                assert run.open
                assert (run.cache, run.cancel_requested, alike(run, job)) == ("MISS", False, True)

    @invariant()
    def each_job_ends_once_and_what_was_drawn_is_paid_once(self) -> None:
        for job in self.jobs.values():
            kinds = self.loop.run_until_complete(self.bench.kinds(job.id))
            assert sum(kind in FINAL for kind in kinds) == (not job.open)
        settled = [p for kind, p in self.bench.limiter.delivered if kind == "settle"]
        ended = {job.id: job.charged_units for job in self.jobs.values() if not job.open}
        assert {p["reservation_id"]: p["charged_units"] for p in settled} == ended
        assert len(settled) == len(ended)
        assert sum(ended.values()) == pytest.approx(self.owed)

    def late(self, job: Job) -> bool:
        """Whether it may expire: of an attempt that drew nothing and is no fault of its own, none began."""
        return job.deadline_at is not None and job.deadline_at <= self.bench.clock.now()

    def running(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state is JobState.RUNNING]

    def open(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.open]

    def pick(self, data: st.DataObject, jobs: list[Job]) -> tuple[Job, Order]:
        job = data.draw(st.sampled_from(jobs))
        return job, self.order(job)


def test_whatever_happens_each_job_ends_once_with_its_run() -> None:
    run_state_machine_as_test(Coalescing, settings=settings(max_examples=15, stateful_step_count=20, deadline=None))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whatever_happens_for_long_each_job_ends_once_with_its_run() -> None:
    run_state_machine_as_test(Coalescing, settings=settings(max_examples=80, stateful_step_count=30, deadline=None))
