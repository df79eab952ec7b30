"""Whoever prices a request gets the same units by the same version: reservation, job, wait, estimate and scheduler.

The scheduler is real but for its workers and its store, the gateway but for the wire, whose messages are real.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from darkroom.scheduler.v1 import scheduler_service_pb2 as pb
from darkroom.v1 import job_pb2
from libs.clients.scheduler import Submission, Submitted, catalog_from_pb
from libs.testing.clock import ManualClock
from services.gateway.catalog import CatalogView
from services.gateway.creating.admission import Admission
from services.gateway.creating.drafts import Draft
from services.gateway.creating.estimating import Estimator
from services.scheduler.pricing.keeper import EVERY_S
from services.scheduler.wire import catalog_to_pb
from tests.unit.services.gateway.fakes import CALLER, FakeLimiter, FakeScheduler, uploads
from tests.unit.services.gateway.fakes import job as answer
from tests.unit.services.scheduler.fakes import MODEL, Bench, record, silence, spec

DRAFT = Draft(job_pb2.JobSpec(prompt="a red circle", width=256, height=256, steps=12))


@dataclass
class Counter(FakeScheduler):
    """The scheduler as the gateway's client sees it: hands on what it is given."""

    bench: Bench = field(default_factory=Bench)
    asked_units: list[float] = field(default_factory=list)

    async def submit(self, submission: Submission) -> Submitted:
        self.submissions.append(submission)
        await self.bench.submit(
            id=submission.job_id, spec=submission.spec, estimated_units=submission.estimated_units, tier=submission.tier
        )
        return Submitted(answer(), False, submission.request_digest)

    async def estimate_wait(self, tier: str, model_version: str, units: float) -> job_pb2.QueueStatus:
        self.asked_units.append(units)
        return job_pb2.QueueStatus()


class Town:
    """One scheduler, and a gateway that has its catalog."""

    def __init__(self) -> None:
        self.bench, self.limiter, self.view = Bench(), FakeLimiter(), CatalogView()
        self.counter = Counter(bench=self.bench)
        self.admission = Admission(self.counter, self.limiter, self.view, uploads(), ManualClock())
        self.estimator = Estimator(self.counter, self.limiter, self.view, uploads())

    def hear(self) -> None:
        """Take the catalog in force, as it travels."""
        sent = catalog_to_pb(self.bench.scheduler.catalog.catalog).SerializeToString()
        self.view.replace(catalog_from_pb(pb.Catalog.FromString(sent)))

    async def learn(self, ms_per_step: float) -> None:
        """Let the scheduler measure some jobs, and put what follows into force."""
        rng = random.Random(int(ms_per_step))
        for _ in range(40):
            asked = spec(steps=rng.randint(4, 28), width=rng.choice((64, 128, 256)), images=rng.randint(1, 4))
            took = ms_per_step * asked.drawn_steps * asked.images * (1 + 20 * asked.megapixels) * rng.uniform(0.9, 1.1)
            self.bench.scheduler.prices.book.learn(MODEL.pinned, "cpu", asked, took)
        self.bench.scheduler.prices.drew((await self.bench.submit()), record(), 50.0)
        await self.bench.clock.advance(EVERY_S)
        await self.bench.clock.settle()


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = Town()
    async with town.bench.running():
        await town.bench.workers(record(), script=silence)
        await town.learn(5.0)
        town.hear()
        yield town


async def test_all_price_alike_and_name_the_version(town: Town) -> None:
    table = town.bench.scheduler.catalog.catalog.prices
    assert town.view.costs == table
    assert table.version == 1
    estimate = await town.estimator.estimate(CALLER, DRAFT)
    await town.admission.admit(CALLER, DRAFT)
    (submission,), (reserved,) = town.counter.submissions, town.limiter.reserved
    job = await town.bench.now(submission.job_id)
    priced = table.units(job.spec, MODEL.pinned)
    assert priced == estimate.units == reserved.units == submission.estimated_units == job.estimated_units
    assert town.counter.asked_units == [priced]
    assert estimate.prices_version == table.version
    assert (estimate.run_p50_s, estimate.run_p90_s) == (
        table.typical_units(job.spec, MODEL.pinned) / 1000,
        priced / 1000,
    )


async def test_waits_and_needed_workers_go_by_the_same_units(town: Town) -> None:
    scheduler = town.bench.scheduler
    before = scheduler.jobs.backlog.units(MODEL.pinned)
    await town.admission.admit(CALLER, DRAFT)
    units = town.counter.submissions[0].estimated_units
    assert scheduler.jobs.backlog.units(MODEL.pinned) - before == pytest.approx(units)
    queued = scheduler.forecaster.demand().of(MODEL.pinned).gpu_s
    assert queued == pytest.approx((before + units) * scheduler.prices.book.seconds_per_unit(MODEL.pinned))


async def test_a_job_that_an_older_gateway_priced_keeps_its_own_estimate(town: Town) -> None:
    await town.admission.admit(CALLER, DRAFT)
    await town.learn(50.0)
    now = town.bench.scheduler.catalog.catalog.prices
    assert now.version > town.view.costs.version == 1
    await town.admission.admit(CALLER, DRAFT)  # it has not heard yet
    first, second = town.counter.submissions
    assert first.estimated_units == second.estimated_units < now.units(first.spec, MODEL.pinned)
    job = await town.bench.now(second.job_id)
    confirmed = {payload["reservation_id"]: payload["units"] for _, payload in town.bench.limiter.delivered}
    assert confirmed[job.id] == job.estimated_units == second.estimated_units
    town.hear()
    estimate = await town.estimator.estimate(CALLER, DRAFT)
    assert (estimate.prices_version, estimate.units) == (now.version, now.units(first.spec, MODEL.pinned))
