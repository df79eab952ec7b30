"""The scheduler's core with nothing around it: memory, order, fleet, dispatcher and forecaster of the scheduler itself.

The store answers from memory at once, and workers are done when the bench says so.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from sqlalchemy import RowMapping

from libs.clients.modelserver import ModelServer
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.ids import JobId, WorkerId
from services.scheduler.attempts.outcome import Attempt
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.attempts.runner import AttemptRunner
from services.scheduler.dispatcher import Dispatcher
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.forecast.estimator import Estimator
from services.scheduler.forecast.forecaster import Forecaster
from services.scheduler.instruments import Instruments
from services.scheduler.job import AttemptRecord, Change, Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.order.ordering import TIERS, Waiting
from services.scheduler.placement.fleet import Fleet
from services.scheduler.placement.preempter import Preempter
from services.scheduler.pricing.book import PriceBook
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage import changes
from services.scheduler.storage.sql_rows import job_of, job_values
from services.scheduler.storage.store import JobStore
from services.scheduler.storage.wishes import Ending, Start
from tests.unit.services.scheduler.fakes import job

MODELS = tuple(f"model-{number:02}@v1" for number in range(12))
WORKERS, ROWS, ROOM = 64, 4, 3  # workers, rows of each, models that each has in memory
TENANTS = 10_000
SHAPES = ((512, 1), (512, 4), (1024, 1), (1024, 4))  # sides and pictures: each has a line of its own in the order
UNITS = (200.0, 800.0, 3000.0)
START_S = 1_700_000_000.0
_WORDS = "a small red lighthouse on a cliff above the sea at dusk, soft light, wide angle, painted with thick brushes"


class Core:
    """The parts of a scheduler that decide, with 64 workers."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        store, instruments = cast("JobStore", _Store(self)), Instruments()
        hub = WatchHub(store, clock)
        self.jobs = OpenJobs(hub, instruments, clock)
        self.fleet = Fleet(_Directory(), _server, clock, self.jobs.work.ring)
        self.runner = _Runner(clock)
        runner, self.reconciler = cast("AttemptRunner", self.runner), Reconciler(store, self.jobs, clock, Lead(1))
        preempter = Preempter(self.jobs, self.fleet, instruments, clock)
        self.dispatcher = Dispatcher(store, self.jobs, self.fleet, runner, self.reconciler, preempter, clock)
        self.forecaster = Forecaster(self.jobs, self.fleet, hub, clock, PriceBook().seconds_per_unit)
        self.estimator = Estimator(self.jobs, self.fleet, self.forecaster, clock)

    def pop(self) -> tuple[Waiting, WorkerRecord]:
        """Start the next job: what the dispatcher does beside its commit."""
        now = self.clock.now()
        self.jobs.ordering.wake(now)
        self.jobs.ordering.judge(_everybody, anew=False)
        waiting = self.jobs.ordering.next(self.fleet.offers(), now)
        assert waiting is not None, "a row is free and jobs wait"
        needed = self.jobs.backlog.models()
        record = self.fleet.place(waiting.line, self.jobs.avoided(waiting.job_id), needed)
        assert isinstance(record, WorkerRecord), "who is next can be placed"
        begun = self.begun(Start(waiting.job_id, 1, record.worker_id, 1, now))
        self.jobs.started(begun, record, now)
        self.fleet.give(record, begun.id, begun.shape)
        return waiting, record

    def begun(self, start: Start) -> Job:
        """Return a job as it is once its attempt is committed."""
        found = self.jobs.get(start.job_id)
        step = changes.started(found, start) if found else None
        assert step is not None, "only waiting jobs begin"
        return step.job

    def end(self, job_id: JobId, record: WorkerRecord, units: float) -> None:
        """End an attempt well, and free its row."""
        self.over(job_id, units)
        self.fleet.take_back(record, job_id)

    def over(self, job_id: JobId, units: float) -> None:
        """End an attempt well: what the closer does beside its commit."""
        self.jobs.ordering.settled(job_id, units)
        known = self.jobs.get(job_id)
        assert known is not None, "it ran"
        ending = Ending(job_id, known.attempt, 1, Change.SUCCEED, self.clock.now(), "succeeded", actual_units=units)
        step = changes.ended(known, ending)
        assert step is not None, "only running jobs end"
        self.jobs.ended(step.job)


class _Store:
    """Says yes at once."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def start(self, start: Start) -> Job:
        return self._core.begun(start)

    async def attempts(self, _job_id: JobId) -> list[AttemptRecord]:
        return []


class _Runner:
    """Lets every attempt run for `takes_s`; then it is over."""

    takes_s = 0.1

    def __init__(self, clock: Clock) -> None:
        self.over: Callable[[JobId, float], None] = _nobody
        self._clock = clock

    async def run(self, attempt: Attempt) -> None:
        await self._clock.sleep(self.takes_s)
        self.over(attempt.job.id, attempt.job.estimated_units)


class _Directory:
    """A fleet that stays as it is: workers with all models, some of them in memory."""

    def __init__(self) -> None:
        self._workers = {record.worker_id: record for record in map(_worker, range(WORKERS))}

    def workers(self) -> Mapping[WorkerId, WorkerRecord]:
        return self._workers

    async def wait_for(self, _wanted: Callable[[], bool]) -> None:
        await asyncio.Event().wait()


def _worker(number: int) -> WorkerRecord:
    resident = tuple(MODELS[(number + step) % len(MODELS)] for step in range(ROOM))
    name = WorkerId(f"worker-{number}")
    return WorkerRecord(name, "a", f"{name}:1", "cpu", 0, MODELS, resident, ROWS, 0, START_S)


def _server(_address: str) -> ModelServer:
    return cast("ModelServer", None)  # nobody calls it: the runner is the bench's


def _nobody(_job_id: JobId, _units: float) -> None:
    raise AssertionError("somebody ends attempts")


def _everybody(_model: str) -> None:
    return None


def rows(count: int, tenants: int, now: float, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Give jobs as rows of the store: no two share a string. A few tenants have many jobs, most have few."""
    dice, template = random.Random(seed), job_values(job(now))
    popularity = list(itertools.accumulate(1.0 / (rank + 1) for rank in range(len(MODELS))))
    for number in range(count):
        tenant = int(tenants * dice.random() ** 2)
        pinned = MODELS[bisect.bisect(popularity, dice.random() * popularity[-1])]
        came, model = now + number * 1e-4, pinned[:-3]
        yield template | {
            "id": f"job_{int(came * 1e4):016}{seed:04}{number:08}",
            "tenant_id": f"tenant_{tenant:08}",
            "tier": TIERS[tenant % len(TIERS)],
            "key_id": f"key_{tenant:026}",
            "model": model,
            "model_version": pinned,
            "spec": template["spec"] | _asked(dice) | {"model": model, "prompt": f"{number} {_WORDS}"},
            "estimated_units": dice.choice(UNITS) * dice.uniform(0.8, 1.2),
            "created_at": came,
            "queued_at": came,
            "request_digest": f"{dice.getrandbits(256):064x}",
            "traceparent": f"00-{dice.getrandbits(128):032x}-{dice.getrandbits(64):016x}-01",
            "cache_key": f"{dice.getrandbits(256):064x}",
            "stages": [],
        }


def _asked(dice: random.Random) -> dict[str, int]:
    side, images = dice.choice(SHAPES)
    return {"width": side, "height": side, "images": images, "seed": dice.getrandbits(32)}


def jobs(count: int, tenants: int, now: float, seed: int = 1) -> Iterator[Job]:
    """Give the same as jobs, made as the store makes them of rows."""
    for row in rows(count, tenants, now, seed):
        yield job_of(cast("RowMapping", row))


def tenants_of(size: int) -> int:
    """Return how many tenants share a queue of this size."""
    return max(10, min(TENANTS, size // 10))


def resident_bytes() -> int:
    """Return the memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
