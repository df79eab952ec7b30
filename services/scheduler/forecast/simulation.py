"""Plays the queue forward: the order's own `next` on a fork of it, against rows that become free. Pure.

What comes later is not known and not guessed; how far the outcome strays from this is what calibration learns. It is
run in slices, so that whoever runs it can let others have the event loop in between.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from libs.fleet.shapes import UNKNOWN, Shape
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
        """Return the next job of whose line somebody takes one now; `offer` says at which cost of loading, in units."""
        ...

    def started(self, job_id: JobId, now: float) -> None:
        """Take a job out and charge its tenant the estimate."""
        ...

    def settled(self, job_id: JobId, actual_units: float) -> None:
        """Correct the charge of a job that ended."""
        ...


@dataclass(slots=True)
class SimulatedWorker:
    """A worker as it is when the simulation begins. `room`: models that fit on it beside each other.

    `most` rows may draw side by side, by model and class of size; for others `free` more jobs are taken.
    """

    name: str
    models: frozenset[str]
    resident: list[str]  # the one used last stands last
    free: int
    room: int = 1
    jobs: int = 0  # that it has
    rows: int = 0  # of them
    most: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def takes(self, shape: Shape) -> bool:
        """Whether a job fits beside those that it has."""
        measured = self.most.get((shape.model, shape.size)) if shape.size else self._least(shape.model)
        if measured is None or not self.jobs:
            return self.free > 0
        return self.rows + shape.rows <= measured

    def _least(self, model: str) -> int | None:
        """Return the least of what it measured of a model: for a job of which nothing else is known."""
        return min((rows for (name, _), rows in self.most.items() if name == model), default=None)

    def use(self, shape: Shape, times: int = 1) -> None:
        """Count one more job there, or with −1 times one less."""
        self.free, self.jobs, self.rows = self.free - times, self.jobs + times, self.rows + times * shape.rows


@dataclass(frozen=True, slots=True)
class Rest:
    """What is left of a running job, in seconds; `worker` counts in the list of workers."""

    job_id: JobId
    worker: int
    left_s: float
    units: float
    shape: Shape = UNKNOWN


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
    _ends: list[tuple[float, int, Rest]] = field(default_factory=list)
    _loaded_at: dict[tuple[int, str], float] = field(default_factory=dict)
    _number: itertools.count[int] = field(default_factory=itertools.count)
    _shapes: dict[str, Shape] = field(default_factory=dict)  # by line, of those that were asked about
    _able: dict[str, set[int]] = field(default_factory=dict)  # workers that take a job of the line
    _ready: dict[str, set[int]] = field(default_factory=dict)  # … where its model is resident

    def busy(self, rests: Iterable[Rest]) -> None:
        """Let running jobs end when what is left of them is over."""
        for rest in rests:
            self.busy_s += max(0.0, rest.left_s)
            self._end_at(self.now + max(0.0, rest.left_s), rest)

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

    def _offer(self, line: str) -> float | None:
        """Return what taking a job of this line now would cost in loading, in units; None when nobody takes it."""
        if line not in self._shapes:
            self._shapes[line], self._able[line], self._ready[line] = Shape.of_line(line), set(), set()
            for index in range(len(self.workers)):
                self._note(index, line)
        if self._ready[line]:
            return 0.0
        able = self._able[line]
        if not able:
            return None
        return 1000.0 * self.costs.load_s(self.workers[min(able)].name, self._shapes[line].model)

    def _take(self, waiting: Waiting) -> None:
        model, shape = waiting.model_version, self._shapes[waiting.line]
        index = min(self._ready[waiting.line] or self._able[waiting.line])
        load_s = self._bring(index, model)
        self.starts[waiting.job_id] = Start(len(self.starts) + 1, self.now, load_s > 0.0)
        self._use(index, shape, 1)
        self.line.started(waiting.job_id, self.now)
        takes_s = load_s + waiting.units * self.costs.seconds_per_unit(self.workers[index].name, model)
        self._end_at(self.now + takes_s, Rest(waiting.job_id, index, takes_s, waiting.units, shape))

    def _use(self, index: int, shape: Shape, times: int) -> None:
        self.workers[index].use(shape, times)
        for line in self._shapes:
            self._note(index, line)

    def _note(self, index: int, line: str) -> None:
        """Note whether a worker takes jobs of a line."""
        worker, shape = self.workers[index], self._shapes[line]
        able = shape.model in worker.models and worker.takes(shape)
        (self._able[line].add if able else self._able[line].discard)(index)
        ready = able and shape.model in worker.resident
        (self._ready[line].add if ready else self._ready[line].discard)(index)

    def _bring(self, index: int, model: str) -> float:
        """Make a model resident, used last; returns the seconds until it is."""
        worker = self.workers[index]
        if model in worker.resident:
            worker.resident.remove(model)
        else:
            self._loaded_at[index, model] = self.now + self.costs.load_s(worker.name, model)
            del worker.resident[: max(0, len(worker.resident) - worker.room + 1)]
        worker.resident.append(model)
        return max(0.0, self._loaded_at.get((index, model), 0.0) - self.now)

    def _end_at(self, moment: float, rest: Rest) -> None:
        heapq.heappush(self._ends, (moment, next(self._number), rest))

    def _advance(self) -> bool:
        """Go on to the next moment at which something changes; False when there is none."""
        wake = self.line.next_wake()
        if self._ends and (wake is None or self._ends[0][0] <= wake):
            self.now, _, rest = heapq.heappop(self._ends)
            self._use(rest.worker, rest.shape, -1)
            self.line.settled(rest.job_id, rest.units)
            return True
        if wake is None:
            return False
        self.now = max(self.now, wake)
        return True
