"""One queue of a given length in a process of its own: what a waiting job weighs and what each move costs."""

from __future__ import annotations

import gc
import itertools
import random
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from libs.fleet.record import WorkerRecord
from libs.testing.clock import ManualClock
from services.scheduler.job import Job
from services.scheduler.order.ordering import Waiting
from tests.bench.queue.core import ROWS, WORKERS, Core, jobs, resident_bytes, tenants_of

ROUNDS = 5000
ASKED = 1000  # jobs whose place and wait are asked for
Row = dict[str, float]


@dataclass(slots=True)
class Times:
    """Seconds of many calls of one thing."""

    seconds: list[float] = field(default_factory=list)

    def of(self, action: Callable[[], object]) -> object:
        """Time one call and return what it returned."""
        began = time.perf_counter()
        result = action()
        self.seconds.append(time.perf_counter() - began)
        return result

    def row(self, name: str) -> Row:
        """Return median, 99th percentile and most, in microseconds."""
        ordered = sorted(self.seconds)
        p99 = ordered[int(0.99 * len(ordered))]
        return {
            f"{name} p50 us": statistics.median(ordered) * 1e6,
            f"{name} p99 us": p99 * 1e6,
            f"{name} max us": ordered[-1] * 1e6,
        }


class Pauses:
    """How long the collector held everything up, at most."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._began = 0.0
        gc.callbacks.append(self._told)

    def _told(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.longest_s = max(self.longest_s, time.perf_counter() - self._began)


class Queue:
    """A core with jobs waiting; it stays as long as it is."""

    def __init__(self, size: int) -> None:
        self.core = Core(ManualClock())
        now, tenants = self.core.clock.now(), tenants_of(size)
        gc.collect()
        before = resident_bytes()
        for one in jobs(size, tenants, now):
            self.core.jobs.queued(one)
        gc.collect()
        self.bytes_a_job = (resident_bytes() - before) / size
        self.arrivals = jobs(10**9, tenants, now + 1000.0, seed=2)
        self.running: deque[tuple[Waiting, WorkerRecord]] = deque()
        self.pops, self.adds, self.ends = Times(), Times(), Times()
        for _ in range(WORKERS * ROWS):
            self.running.append(self.core.pop())

    def turn(self) -> None:
        """End one job, start one, let one come."""
        waiting, record = self.running.popleft()
        self.ends.of(lambda: self.core.end(waiting.job_id, record, waiting.units * 1.1))
        self.pops.of(lambda: self.running.append(self.core.pop()))
        one = next(self.arrivals)
        self.adds.of(lambda: self.core.jobs.queued(one))

    def ask(self, some: list[Job]) -> Row:
        """Ask where jobs stand and how long they wait, while the queue moves."""
        places, waits = Times(), Times()
        for one in some:
            self.turn()
            places.of(lambda one=one: self.core.jobs.ordering.standing(one.id))
            waits.of(lambda one=one: self.core.estimator.of_job(one))
        return places.row("place") | waits.row("wait")

    def forks(self) -> Row:
        """Fork the order, and move on while the fork lives and right after it is gone."""
        forks, self.pops = Times(), Times()
        for _ in range(20):
            twin = forks.of(self.core.jobs.ordering.fork)
            for _ in range(50):
                self.turn()
            del twin
            self.turn()
        return forks.row("fork") | self.pops.row("pop beside a fork")


def measure(size: int) -> Row:
    """Return the numbers of a queue of this length."""
    pauses, began = Pauses(), time.perf_counter()
    queue = Queue(size)
    took: Row = {"bytes a job": queue.bytes_a_job, "filled s": time.perf_counter() - began}
    for _ in range(ROUNDS):
        queue.turn()
    took |= queue.pops.row("pop") | queue.adds.row("add") | queue.ends.row("end")
    took["collector ms"] = pauses.longest_s * 1e3
    waiting = itertools.islice(queue.core.jobs.all(), size)
    some = [one for one in waiting if one.id in queue.core.jobs.ordering]
    took |= queue.ask(random.Random(3).sample(some, min(len(some) // 2, ASKED)))
    return took | queue.forks()
