"""Which workers take the next job of a line, by where the weights of its model are; kept up change by change. Pure.

Lines are looked after from when they are first asked about. What a change of a worker needs is worked out beforehand,
once for each line and what it can draw: thousands of jobs a second are given and taken back, and records come anew
whenever a load or a temperature differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.ids import WorkerId
from services.scheduler.placement.load_times import PLACES, VRAM
from services.scheduler.placement.placement import Seat, place_of

MOST_LINES = 1024  # beyond them the one not asked about for longest is forgotten

ByPlace = Mapping[str, dict[WorkerId, None]]
Facts = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    """When a worker that has jobs takes one more of a line."""

    workers: dict[WorkerId, None]  # with the model in the same place, that take one now
    most: int | None  # rows in use beside which it fits; None: it counts jobs
    ahead: bool  # it may come before there are rows for it


@dataclass(slots=True)
class _Known:
    """A worker as its rules were made."""

    record: WorkerRecord
    facts: Facts
    rules: dict[str, _Rule] = field(default_factory=dict)  # by line


class Takers:
    """An index over seats: `put` a seat whenever it changes."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}
        self._by_line: dict[str, ByPlace] = {}  # the one asked about last comes last
        self._known: dict[WorkerId, _Known] = {}

    def shape(self, line: str) -> Shape:
        """Return the shape of the jobs of a line."""
        return self._shapes.get(line) or Shape.of_line(line)

    def of(self, line: str, seats: Mapping[WorkerId, Seat]) -> ByPlace:
        """Return who takes a job of a line, by place. Those put last come last."""
        known = self._by_line.pop(line, None)
        if known is None:
            return self._learn(line, seats)
        self._by_line[line] = known
        return known

    def put(self, seat: Seat) -> None:
        """Count a worker as it is now."""
        _count(seat, self._rules_of(seat).values())

    def drop(self, worker_id: WorkerId) -> None:
        """Count a worker no longer."""
        known = self._known.pop(worker_id, None)
        for rule in known.rules.values() if known else ():
            rule.workers.pop(worker_id, None)

    def _rules_of(self, seat: Seat) -> dict[str, _Rule]:
        worker_id = seat.record.worker_id
        known = self._known.get(worker_id)
        if known is not None and known.record is seat.record:
            return known.rules
        facts = _facts(seat)
        if known is not None and known.facts == facts:
            known.record = seat.record
            return known.rules
        self.drop(worker_id)
        known = self._known[worker_id] = _Known(seat.record, facts)
        for line, shape in self._shapes.items():
            if shape.model in seat.record.models:
                known.rules[line] = self._rule(seat, line)
        return known.rules

    def _rule(self, seat: Seat, line: str) -> _Rule:
        shape = self._shapes[line]
        place, most = place_of(shape.model, seat.record), seat.most_for(shape)
        return _Rule(self._by_line[line][place], None if most is None else most - shape.rows, place == VRAM)

    def _learn(self, line: str, seats: Mapping[WorkerId, Seat]) -> ByPlace:
        if len(self._shapes) >= MOST_LINES:
            self._forget(next(iter(self._by_line)))
        shape = self._shapes[line] = Shape.of_line(line)
        found = self._by_line[line] = {place: {} for place in PLACES}
        for worker_id, seat in seats.items():
            if shape.model in seat.record.models:
                rule = self._known[worker_id].rules[line] = self._rule(seat, line)
                _count(seat, (rule,))
        return found

    def _forget(self, line: str) -> None:
        del self._shapes[line], self._by_line[line]
        for known in self._known.values():
            known.rules.pop(line, None)


def _count(seat: Seat, rules: Iterable[_Rule]) -> None:
    worker_id = seat.record.worker_id
    takes_any, some_free = seat.takes_any, seat.assigned < seat.record.rows
    idle, ends, rows = not seat.assigned, seat.ending >= 1, seat.rows
    for rule in rules:
        rule.workers.pop(worker_id, None)
        fits = some_free if rule.most is None or idle else rows <= rule.most
        if takes_any and (fits or (ends and rule.ahead)):
            rule.workers[worker_id] = None


def _facts(seat: Seat) -> Facts:
    """Return what its rules are made of."""
    record = seat.record
    return record.models, record.resident, record.residency, seat.most
