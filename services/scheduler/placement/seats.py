"""Who was given what, and who takes which model now: kept up to date change by change. Pure; `now` is an argument.

Asked thousands of times a second by the order, so an answer looks at no worker that does not take the model.
Everything is kept by incarnation: a restarted worker is new.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator, Mapping

from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import UNKNOWN, Shape, drawing, most_rows
from libs.ids import JobId, WorkerId
from services.scheduler.operators.operations import Wished, Wishes
from services.scheduler.placement import placement
from services.scheduler.placement.load_times import PLACES, LoadTimes
from services.scheduler.placement.placement import Obstacle, Seat
from services.scheduler.placement.takers import Takers

_LOOKED_AT = 32  # takers that one choice looks at; those given something last come last, so all have their turn

AWAY_S = 3600.0  # after its quarantine, within which the same run of a worker may be back in the fleet


Incarnation = tuple[WorkerId, str]


class Seats:
    """The workers with what they were given."""

    def __init__(self) -> None:
        self.loads = LoadTimes()
        self._wishes: Wishes = Wished()
        self._records: Mapping[WorkerId, WorkerRecord] = {}
        self._seats: dict[WorkerId, Seat] = {}
        self._most: dict[WorkerId, Mapping[tuple[str, int], int]] = {}  # rows, as their records say
        self._takers = Takers()
        self._given: dict[Incarnation, dict[JobId, Shape]] = {}  # in this order
        self._expected: dict[WorkerId, dict[JobId, Shape]] = {}  # what they were given by an earlier leader
        self._ending: dict[Incarnation, set[JobId]] = {}  # of them
        self._parked: dict[Incarnation, set[JobId]] = {}  # not of them
        self._rests: dict[Incarnation, float] = {}  # until when, in Unix seconds
        self._rest_ends: list[tuple[float, WorkerId]] = []
        self._alone: dict[Incarnation, set[JobId]] = {}  # of those given, that want no others beside them
        self._apart: dict[Incarnation, float] = {}  # in quarantine until then; afterwards one job at a time

    def follow(self, records: Mapping[WorkerId, WorkerRecord], now: float) -> None:
        """Take the fleet as it is now."""
        before, self._records = self._records, records
        for worker_id in before.keys() - records.keys():
            self._most.pop(worker_id, None)
            self._seat(worker_id, now)
        for worker_id, record in records.items():
            if before.get(worker_id) is not record:
                self._most[worker_id] = most_rows(record.model_rows)
                self._seat(worker_id, now)
        self._forget_rests(now)

    def _forget_rests(self, now: float) -> None:
        records = self._records
        self._rests = {key: end for key, end in self._rests.items() if is_alive(key, records)}
        self._apart = {
            key: end
            for key, end in self._apart.items()
            if is_alive(key, records) or (key[0] not in records and now < end + AWAY_S)
        }

    def wish(self, wishes: Wishes, now: float) -> None:
        """Take an operator's wishes as they are now."""
        self._wishes = wishes
        for worker_id in self._records:
            self._seat(worker_id, now)

    def offer_s(self, line: str) -> float | None:
        """Return the seconds of loading that a job of the line would cost now; None when nobody takes it."""
        takers = self._takers.of(line, self._seats)
        for place in PLACES:
            if takers[place]:
                return self.loads.seconds(self._takers.shape(line).model, place)
        return None

    def choose(self, line: str, avoid: Collection[WorkerId], needed: Collection[str]) -> WorkerRecord | Obstacle:
        """Return who gets a job of the line, or what stands in the way."""
        takers = list(itertools.islice(self._taking(line, avoid), _LOOKED_AT))
        if takers:
            return placement.best(line, takers, avoid, needed)
        return placement.choose(line, self._seats.values(), avoid, needed)

    def models(self) -> set[str]:
        """Return the model versions that somebody takes now."""
        return {model for seat in self._seats.values() for model in seat.record.models if seat.takes(model)}

    def all(self) -> Collection[Seat]:
        """Return every seat."""
        return self._seats.values()

    def of(self, worker_id: WorkerId) -> Seat | None:
        """Return the seat of a worker that is alive."""
        return self._seats.get(worker_id)

    def give(
        self, record: WorkerRecord, job_id: JobId, now: float, *, shape: Shape = UNKNOWN, alone: bool = False
    ) -> None:
        """Count a job on a worker; `alone`, nothing more is given to it meanwhile."""
        if alone:
            self._alone.setdefault(key_of(record), set()).add(job_id)
        self._given.setdefault(key_of(record), {})[job_id] = shape
        self._parked.get(key_of(record), set()).discard(job_id)
        self._seat(record.worker_id, now)

    def expect(self, worker_id: WorkerId, job_id: JobId, now: float, shape: Shape = UNKNOWN) -> None:
        """Count a job on whatever run of a worker there is or will be."""
        self._expected.setdefault(worker_id, {})[job_id] = shape
        self._seat(worker_id, now)

    def expect_no_more(self, worker_id: WorkerId, job_id: JobId, now: float) -> None:
        """Count it so no longer."""
        jobs = self._expected.get(worker_id, {})
        jobs.pop(job_id, None)
        if not jobs:
            self._expected.pop(worker_id, None)
        self._seat(worker_id, now)

    def take_back(self, record: WorkerRecord, job_id: JobId, now: float) -> None:
        """Count it no longer."""
        key = key_of(record)
        self._given.get(key, {}).pop(job_id, None)
        for jobs in (self._ending, self._alone, self._parked):
            jobs.get(key, set()).discard(job_id)
        for held in (self._given, self._ending, self._alone, self._parked):
            if not held.get(key):
                held.pop(key, None)
        self._seat(record.worker_id, now)

    def park(self, record: WorkerRecord, job_id: JobId, now: float) -> None:
        """Count a job as parked there until it is given or taken back: its row is another's."""
        self.take_back(record, job_id, now)
        self._parked.setdefault(key_of(record), set()).add(job_id)
        self._seat(record.worker_id, now)

    def given(self, record: WorkerRecord) -> tuple[JobId, ...]:
        """Return the jobs a worker was given, by id."""
        return tuple(sorted(self._given.get(key_of(record), ())))

    def holds_any(self, key: Incarnation) -> bool:
        """Return whether a worker has anything of ours, drawn or parked."""
        return key in self._given or key in self._parked

    def ends_soon(self, record: WorkerRecord, job_id: JobId, now: float) -> bool:
        """Take in that a job is about to end; True when that is news."""
        jobs = self._given.get(key_of(record), {})
        ending = self._ending.setdefault(key_of(record), set()) if job_id in jobs else {job_id}
        if job_id in ending:
            return False
        ending.add(job_id)
        self._seat(record.worker_id, now)
        return True

    def rest(self, record: WorkerRecord, until: float, now: float) -> None:
        """Give a worker nothing until a moment."""
        self._rests[key_of(record)] = until
        heapq.heappush(self._rest_ends, (until, record.worker_id))
        self._seat(record.worker_id, now)

    def keep_apart(self, key: Incarnation, until: float, now: float) -> None:
        """Give a worker nothing until a moment, then one job at a time until it is taken in."""
        if self._apart.get(key) != until:
            self._apart[key] = until
            heapq.heappush(self._rest_ends, (until, key[0]))
            self._seat(key[0], now)

    def take_in(self, key: Incarnation, now: float) -> None:
        """Give a worker jobs like others."""
        if self._apart.pop(key, None) is not None:
            self._seat(key[0], now)

    def wake(self, now: float) -> None:
        """Let those take jobs again that have rested."""
        while self._rest_ends and self._rest_ends[0][0] <= now:
            self._seat(heapq.heappop(self._rest_ends)[1], now)

    def next_rest_end(self, now: float) -> float | None:
        """Return when the next worker has rested."""
        ends = itertools.chain(self._rests.values(), self._apart.values())
        return min((end for end in ends if end > now), default=None)

    def _taking(self, line: str, avoid: Collection[WorkerId]) -> Iterator[Seat]:
        takers = self._takers.of(line, self._seats)
        near = [worker_id for place in PLACES for worker_id in takers.get(place, ())] if avoid else None
        if near is None:
            near = next(
                (list(itertools.islice(takers[place], _LOOKED_AT)) for place in PLACES if takers.get(place)), []
            )
        return (self._seats[worker_id] for worker_id in sorted(near, key=avoid.__contains__))

    def _seat(self, worker_id: WorkerId, now: float) -> None:
        """Count a worker anew."""
        record = self._records.get(worker_id)
        if record is None:
            self._seats.pop(worker_id, None)
            self._takers.drop(worker_id)
            return
        key, most = key_of(record), self._most[worker_id]
        jobs = [*self._expected.get(worker_id, {}).values(), *self._given.get(key, {}).values()]
        drawn, rows = drawing(jobs, lambda shape: most.get((shape.model, shape.size)), record.rows)
        seat = self._seats[worker_id] = Seat(
            record,
            assigned=len(jobs),
            resting=self._rests.get(key, 0.0) > now or self._is_apart(key, now) or key in self._alone,
            drained=worker_id in self._wishes.drained,
            ending=len(self._ending.get(key, ())),
            parked=len(self._parked.get(key, ())),
            pinned=self._wishes.pins.get(worker_id, ()),
            rows=rows,
            waiting=len(jobs) - drawn,
            most=most,
        )
        self._takers.put(seat)

    def _is_apart(self, key: Incarnation, now: float) -> bool:
        until = self._apart.get(key)
        return until is not None and (until > now or key in self._given)


def key_of(record: WorkerRecord) -> Incarnation:
    """Return what tells one run of a worker's process from the next."""
    return record.worker_id, record.incarnation


def is_alive(key: Incarnation, records: Mapping[WorkerId, WorkerRecord]) -> bool:
    """Return whether a run of a worker is in the fleet; a later run of the same worker is another."""
    record = records.get(key[0])
    return record is not None and record.incarnation == key[1]
