"""Plays the queue forward: the order's own `next` on a fork of it, against rows that become free. Pure.

What comes later is not known and not guessed; how far the outcome strays from this is what calibration learns. It is
run in slices, so that whoever runs it can let others have the event loop in between.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from libs.ids import JobId
from services.scheduler.order.ordering import Waiting


class Line(Protocol):
    """What is taken from a fork of services.scheduler.order.ordering.Ordering."""

    def wake(self, now: float) -> None:
        """Line up the retries whose time has come."""
        ...

    def next_wake(self) -> float | None:
        """Return when the next retry is due."""
        ...

    def next(self, offer: Callable[[str], float | None], now: float) -> Waiting | None:
        """Return the next job whose model somebody takes now; `offer` says at which cost of loading, in units."""
        ...

    def started(self, job_id: JobId, now: float) -> None:
        """Take a job out and charge its tenant the estimate."""
        ...

    def settled(self, job_id: JobId, actual_units: float) -> None:
        """Correct the charge of a job that ended."""
        ...


@dataclass(slots=True)
class SimulatedWorker:
    """A worker as it is when the simulation begins. `room`: models that fit on it beside each other."""

    name: str
    models: frozenset[str]
    resident: list[str]  # the one used last stands last
    free: int  # rows
    room: int = 1


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a running job, in seconds; `worker` counts in the list of workers."""

    job_id: JobId
    worker: int
    left_s: float
    units: float


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds per unit, and seconds of a load, both by worker and model."""

    seconds_per_unit: Callable[[str, str], float]
    load_s: Callable[[str, str], float]


@dataclass(frozen=True, slots=True)
class Start:
    """When a job is taken: its place from 1, Unix seconds, and whether its model has to be loaded then."""

    place: int
    at: float
    after_load: bool


@dataclass(slots=True)
class Simulation:
    """One run from `now` on. Read `starts` when it is over; `now` then says how far it came."""

    line: Line
    workers: list[SimulatedWorker]
    costs: Costs
    now: float
    busy_s: float = 0.0  # what is left of running jobs, together
    starts: dict[JobId, Start] = field(default_factory=dict)
    over: bool = False
    _ends: list[tuple[float, int, int, JobId, float]] = field(default_factory=list)
    _loaded_at: dict[tuple[int, str], float] = field(default_factory=dict)
    _number: itertools.count[int] = field(default_factory=itertools.count)
    _able: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # workers with a free row
    _ready: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # … where it is resident

    def __post_init__(self) -> None:
        for index, worker in enumerate(self.workers):
            if worker.free > 0:
                self._offers(index)

    def busy(self, rests: Iterable[Rest]) -> None:
        """Let running jobs end when what is left of them is over."""
        for rest in rests:
            self.busy_s += max(0.0, rest.left_s)
            self._end_at(self.now + max(0.0, rest.left_s), rest.worker, rest.job_id, rest.units)

    def run(self, dispatches: int) -> bool:
        """Play up to so many dispatches; returns whether nothing is left to play."""
        while dispatches > 0 and not self.over:
            self.line.wake(self.now)
            waiting = self.line.next(self._offer, self.now)
            if waiting is not None:
                self._take(waiting)
                dispatches -= 1
            else:
                self.over = not self._advance()
        return self.over

    def _offer(self, model: str) -> float | None:
        """Return what taking a job of this model now would cost in loading, in units; None when nobody takes it."""
        if self._ready.get(model):
            return 0.0
        able = self._able.get(model)
        if not able:
            return None
        return 1000.0 * self.costs.load_s(self.workers[min(able)].name, model)

    def _take(self, waiting: Waiting) -> None:
        model = waiting.model_version
        index = min(self._ready.get(model) or self._able[model])
        load_s = self._bring(index, model)
        self.starts[waiting.job_id] = Start(len(self.starts) + 1, self.now, load_s > 0.0)
        self._use(index)
        self.line.started(waiting.job_id, self.now)
        takes_s = load_s + waiting.units * self.costs.seconds_per_unit(self.workers[index].name, model)
        self._end_at(self.now + takes_s, index, waiting.job_id, waiting.units)

    def _use(self, index: int) -> None:
        worker = self.workers[index]
        worker.free -= 1
        if worker.free < 1:
            for model in worker.models:
                self._able[model].discard(index)
                self._ready[model].discard(index)

    def _free(self, index: int) -> None:
        worker = self.workers[index]
        worker.free += 1
        if worker.free == 1:
            self._offers(index)

    def _offers(self, index: int) -> None:
        for model in self.workers[index].models:
            self._able[model].add(index)
        for model in self.workers[index].resident:
            self._ready[model].add(index)

    def _bring(self, index: int, model: str) -> float:
        """Make a model resident, used last; returns the seconds until it is."""
        worker = self.workers[index]
        if model in worker.resident:
            worker.resident.remove(model)
        else:
            self._loaded_at[index, model] = self.now + self.costs.load_s(worker.name, model)
            leaving = max(0, len(worker.resident) - worker.room + 1)
            for gone in worker.resident[:leaving]:
                self._ready[gone].discard(index)
            del worker.resident[:leaving]
            self._ready[model].add(index)
        worker.resident.append(model)
        return max(0.0, self._loaded_at.get((index, model), 0.0) - self.now)

    def _end_at(self, moment: float, worker: int, job_id: JobId, units: float) -> None:
        heapq.heappush(self._ends, (moment, next(self._number), worker, job_id, units))

    def _advance(self) -> bool:
        """Go on to the next moment at which something changes; False when there is none."""
        wake = self.line.next_wake()
        if self._ends and (wake is None or self._ends[0][0] <= wake):
            self.now, _, worker, job_id, units = heapq.heappop(self._ends)
            self._free(worker)
            self.line.settled(job_id, units)
            return True
        if wake is None:
            return False
        self.now = max(self.now, wake)
        return True
