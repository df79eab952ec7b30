"""The real dispatcher at a given rate on the real clock: CPU of the process, and how long jobs wait for a free row."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from typing import TypedDict

from libs.clock import SystemClock
from libs.ids import JobId
from services.scheduler.job import Job
from tests.bench.queue.core import ROWS, WORKERS, Core, jobs, tenants_of

EVERY_S = 0.005
FREE_S = 0.05  # an attempt, where rows are free all the time


class Rate(TypedDict):
    """What came of it; the waits mean something only where rows are free."""

    jobs_a_s: float
    cpu_share: float
    wait_p50_ms: float
    wait_p99_ms: float


class _Waits:
    """Follows jobs from the queue to their row."""

    def __init__(self) -> None:
        self.started_s: list[float] = []
        self.started_all = 0
        self._since: dict[JobId, float] = {}

    def queued(self, job: Job) -> None:
        self._since[job.id] = time.perf_counter()

    def started(self, job: Job, began_at: float) -> None:
        since = self._since.pop(job.id, None)
        if since is not None:
            self.started_s.append(time.perf_counter() - since)
        self.started_all += 1

    def ended(self, job: Job) -> None:
        pass

    def gone(self, job_id: JobId) -> None:
        pass


async def run(rate: float, waiting: int, seconds: float) -> Rate:
    """Let jobs come at a rate; with others waiting, rows are free just as often as jobs come."""
    core, waits = Core(SystemClock()), _Waits()
    core.runner.over = core.over
    core.runner.takes_s = WORKERS * ROWS / rate if waiting else FREE_S
    now = core.clock.now()
    for one in jobs(waiting, tenants_of(waiting), now - 100.0):
        core.jobs.queued(one)
    core.jobs.followers.append(waits)
    gc.collect()
    arrivals = list(jobs(int(rate * seconds), tenants_of(waiting or 10_000), now, seed=2))
    agents = [asyncio.create_task(agent) for agent in (core.dispatcher.run(), core.forecaster.run())]
    await core.clock.sleep(0.2)
    waits.started_all = 0
    began, cpu = time.perf_counter(), time.process_time()
    for came, one in enumerate(arrivals):
        if came % max(1, int(rate * EVERY_S)) == 0:
            await core.clock.sleep(max(0.0, began + came / rate - time.perf_counter()))
        core.jobs.queued(one)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    for agent in agents:
        agent.cancel()
    for ended in await asyncio.gather(*agents, return_exceptions=True):
        if not isinstance(ended, asyncio.CancelledError):
            raise RuntimeError("an agent gave up") from ended
    ordered = sorted(waits.started_s) or [math.nan]
    p50, p99 = (ordered[int(part * (len(ordered) - 1))] * 1e3 for part in (0.5, 0.99))
    return Rate(jobs_a_s=waits.started_all / took, cpu_share=used / took, wait_p50_ms=p50, wait_p99_ms=p99)
