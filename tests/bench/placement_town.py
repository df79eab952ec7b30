"""The scheduler's order, seats and preloading around one simulated device; what it is for is in placement.py."""

from __future__ import annotations

import random
from collections.abc import Sequence
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
from tests.bench.model_traces import GB, Arrival, Trace
from tests.bench.placement_limits import QUEUED

BYTES_A_S = 1 * GB
START_S = 1_700_000_000.0


@dataclass(slots=True)
class Run:
    """What came of a trace."""

    waited: int = 0
    loads: int = 0
    preloads: int = 0
    longest_wait_s: float = 0.0
    served: list[Arrival] = field(default_factory=list)

    @property
    def all_loads(self) -> int:
        """Loads that were waited for, and those ahead."""
        return self.loads + self.preloads


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose jobs are whose: each job, or each run of jobs of one model, of any of so many tenants."""

    name: str
    tenants: int
    of_runs: bool = False

    def of(self, arrivals: Sequence[Arrival]) -> list[TenantId]:
        """Return the tenant of each job."""
        chance, found, before = random.Random(5), list[TenantId](), ""
        for arrival in arrivals:
            if not found or not self.of_runs or arrival.model != before:
                tenant = TenantId(f"t{chance.randrange(self.tenants)}")
            found.append(tenant)
            before = arrival.model
        return found


ONE = Owners("one tenant", 1)
TEN = Owners("ten tenants, each job by chance", 10)
TEN_OF_RUNS = Owners("ten tenants, each run of one model by one of them", 10, of_runs=True)


@dataclass(slots=True)
class Town:
    """The scheduler's parts around one simulated device."""

    trace: Trace
    owners: Owners = ONE
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
    _tenants: list[TenantId] = field(default_factory=list)

    def serve(self) -> Run:
        """Serve it all."""
        to_come = list(enumerate(self.trace.arrivals))[::-1]
        self._tenants = self.owners.of(self.trace.arrivals)
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
        job_id, tenant = JobId(f"job-{number:05}"), self._tenants[number]
        units = arrival.draws_s * 1000.0
        self._jobs[job_id] = arrival
        self._ordering.add(Waiting(job_id, tenant, "pro", arrival.model, self.now, units), self.now)
        self._backlog.add(job_id, arrival.model, units)
        self._popularity.note(arrival.model, self.now)

    def _draw(self, waiting: Waiting) -> None:
        arrival = self._jobs.pop(waiting.job_id)
        self._drawing = arrival.model
        self.run.served.append(arrival)
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
