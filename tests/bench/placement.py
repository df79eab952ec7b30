"""Jobs that wait for a load, and loads, on recorded traces with a queue: LRU in arrival order against the scheduler.

    python -m tests.bench.placement

One device with room for 3 of 12 models (model_traces.py) and one row, on a virtual clock. The queue is never shorter
than QUEUED jobs until the trace ends: it is filled up from the trace in its order, whatever the times there. Order,
seats, demand and preloading are the scheduler's own; who leaves for a job whose model must come is the engine's own
decision. One load at a time, at 1 GB/s, beside drawing. A job waited for a load when its row was given to it before its
model was there, also when the load had been begun ahead of it and was not through.

LRU serves the same jobs in the order of arrival; each of its loads is waited for.
"""

from __future__ import annotations

import math
import platform
import random
import sys
from dataclasses import dataclass, field

from libs.fleet.record import WorkerRecord
from libs.ids import JobId, TenantId, WorkerId
from services.modelserver.engine.arrivals import Arrivals
from services.modelserver.engine.eviction import Hold, Outlook, Resident, who_leaves
from services.scheduler.order.ordering import Ordering, Waiting
from services.scheduler.placement import preload
from services.scheduler.placement.backlog import Backlog
from services.scheduler.placement.popularity import Popularity
from services.scheduler.placement.preload import HORIZON_S, Device
from services.scheduler.placement.preload import Outlook as Demanded
from services.scheduler.placement.preloader import LOOK_EVERY_S
from services.scheduler.placement.seats import Seats
from services.scheduler.placement.turns import turns
from tests.bench.model_traces import GB, MODELS, Arrival, Trace, traces
from tests.bench.residency import POLICIES
from tests.bench.residency import Device as LruDevice

QUEUED = 20
TENANTS = (1, 10)
BYTES_A_S = 1 * GB
START_S = 1_700_000_000.0


@dataclass(slots=True)
class Run:
    """What came of a trace."""

    waited: int = 0
    loads: int = 0
    preloads: int = 0
    longest_wait_s: float = 0.0


@dataclass(slots=True)
class Town:
    """The scheduler's parts around one simulated device."""

    trace: Trace
    tenants: int = 1
    preloading: bool = True
    reordering: bool = True
    now: float = START_S
    run: Run = field(default_factory=Run)
    _ordering: Ordering = field(default_factory=Ordering)
    _backlog: Backlog = field(default_factory=Backlog)
    _popularity: Popularity = field(default_factory=Popularity)
    _arrivals: Arrivals = field(default_factory=Arrivals)
    _seats: Seats = field(default_factory=Seats)
    _used: dict[str, float] = field(default_factory=dict)  # resident models, when used last
    _coming: tuple[str, float] = ("", 0.0)  # the model that is loaded, and when it is there
    _jobs: dict[JobId, Arrival] = field(default_factory=dict)
    _drawing: str = ""
    _chance: random.Random = field(default_factory=lambda: random.Random(5))

    def serve(self) -> Run:
        """Serve it all."""
        to_come = list(enumerate(self.trace.arrivals))[::-1]
        for model, size in self.trace.bytes_of.items():
            self._seats.loads.note(model, "disk", size / BYTES_A_S)
        while to_come or len(self._ordering):
            while to_come and len(self._ordering) < QUEUED:
                self._enter(*to_come.pop())
            self._follow()
            waiting = self._next()
            self._ordering.started(waiting.job_id, self.now)
            self._backlog.remove(waiting.job_id)
            self._draw(waiting)
        return self.run

    def _next(self) -> Waiting:
        offer = self._seats.offer_s
        if not self.reordering:
            waiting = self._ordering.next(lambda _: 0.0, self.now)
        else:
            waiting = self._ordering.next(lambda model: _units(offer(model)), self.now)
        assert waiting is not None, "a row is free, a job waits, and nothing is done"
        return waiting

    def _enter(self, number: int, arrival: Arrival) -> None:
        job_id, tenant = JobId(f"job-{number:05}"), TenantId(f"t{self._chance.randrange(self.tenants)}")
        units = arrival.draws_s * 1000.0
        self._jobs[job_id] = arrival
        self._ordering.add(Waiting(job_id, tenant, "pro", arrival.model, self.now, units), self.now)
        self._backlog.add(job_id, arrival.model, units)
        self._popularity.note(arrival.model, self.now)

    def _draw(self, waiting: Waiting) -> None:
        arrival = self._jobs.pop(waiting.job_id)
        self._drawing = arrival.model
        self._arrivals.note(arrival.model, self.now)
        self.run.longest_wait_s = max(self.run.longest_wait_s, self.now - waiting.queued_at)
        self._bring(arrival.model)
        until = self.now + arrival.draws_s
        while self.now < until:
            self._preload(until)
            self.now = min(until, self.now + LOOK_EVERY_S)
            self._land()
        self._used[arrival.model] = self.now
        self._drawing = ""
        self._ordering.settled(waiting.job_id, waiting.units)

    def _bring(self, model: str) -> None:
        self._land()
        if model in self._used:
            return
        self.run.waited += 1
        if self._coming[0]:  # one load at a time: it may be ours
            self.now = max(self.now, self._coming[1])
            self._land()
        if model not in self._used:
            self._make_room(model)
            self.now += self.trace.bytes_of[model] / BYTES_A_S
            self.run.loads += 1
            self._used[model] = self.now

    def _make_room(self, model: str) -> None:
        of = self.trace.bytes_of
        residents = [Resident(name, of[name], used, Hold.FREE) for name, used in self._used.items()]
        outlook = Outlook(self.now, frozenset(), expected_s=self._arrivals.expected_s())
        for name in who_leaves(residents, of[model], self.trace.budget_bytes, outlook).leave:
            del self._used[name]

    def _land(self) -> None:
        model, at = self._coming
        if model and at <= self.now:
            self._used[model], self._coming = at, ("", 0.0)

    def _preload(self, until: float) -> None:
        if not self.preloading or self._coming[0]:
            return
        for load in preload.plan([self._device(until)], self._demanded()):
            for name in load.evict:
                assert name != self._drawing, "a model that draws was let go"
                del self._used[name]
            self._coming = load.model, self.now + self.trace.bytes_of[load.model] / BYTES_A_S
            self.run.preloads += 1

    def _device(self, until: float) -> Device:
        held = sum(self.trace.bytes_of[name] for name in self._used)
        following = self._ordering.next(self._load_units, self.now)
        model = following.model_version if following else ""
        return Device(
            record=self._record(),
            spare_bytes=self.trace.budget_bytes - held,
            free_rows=0,
            wait_s=until - self.now,
            busy=(self._drawing,),
            next_cold="" if model in self._used else model,
        )

    def _load_units(self, model: str) -> float:
        return 0.0 if model in self._used else self._seats.loads.seconds(model, "disk") * 1000.0

    def _demanded(self) -> Demanded:
        cold = self._ordering.next(lambda model: None if model in self._used else 0.0, self.now)
        return Demanded(
            queued_s={model: self._backlog.units(model) / 1000.0 for model in self._backlog.models()},
            likelihood=lambda model: self._popularity.likelihood(model, self.now, HORIZON_S),
            load_s=lambda model, _: self._seats.loads.seconds(model, "disk"),
            bytes_of={model: float(size) for model, size in self.trace.bytes_of.items()},
            expected=self._popularity.models(),
            next_cold=cold.model_version if cold else "",
            turns=lambda: turns(self._ordering, self._used, self.now),
        )

    def _follow(self) -> None:
        self._seats.follow({WorkerId("w"): self._record()}, self.now)

    def _record(self) -> WorkerRecord:
        models = tuple(self.trace.bytes_of)
        return WorkerRecord(WorkerId("w"), "a", "w:1", "cpu", 0, models, tuple(self._used), 1, 0, START_S)


def _units(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000.0


def _row(trace: Trace, tenants: int) -> tuple[str, float, float]:
    lru = len(LruDevice(trace, POLICIES["LRU"]()).serve().loads)
    ours = Town(trace, tenants).serve()
    reordered = Town(trace, tenants, preloading=False).serve()
    loads = ours.loads + ours.preloads
    saved = lru - ours.waited
    by_order = (lru - reordered.waited) / saved if saved else math.nan
    cells = (
        f"{lru} | {ours.waited} | {ours.loads} | {ours.preloads} | {ours.waited / lru:.2f} | {loads / lru:.2f} | "
        f"{reordered.waited / lru:.2f} | {by_order:.0%} / {1 - by_order:.0%} | {ours.longest_wait_s:.0f}"
    )
    return f"| {trace.name} | {cells} |", ours.waited / lru, loads / lru


def main() -> None:
    """Print a table for one tenant, whose order is that of arrival, and one for several that share by cost."""
    told = f"{MODELS} models, {QUEUED} jobs queued"
    print(f"{platform.machine()}, Python {sys.version.split()[0]}; {told}; a simulation, the same on every machine")
    heads = "LRU: loads, all waited for | ours: waited | loads for waiting jobs | preloads | waited / LRU | "
    heads += "all loads / LRU | waited / LRU by order alone | share of order / preloading | longest wait s"
    for tenants in TENANTS:
        rows = [_row(trace, tenants) for trace in traces()]
        print(f"\n{tenants} tenants\n\n| trace | {heads} |\n|---|{'---|' * 9}")
        for row, _, _ in rows:
            print(row)
        print(f"\nworst: waited {max(w for _, w, _ in rows):.2f} × LRU, loads {max(x for _, _, x in rows):.2f} × LRU")


if __name__ == "__main__":
    main()
