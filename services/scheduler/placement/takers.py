"""Which workers take the next job of a line, by where the weights of its model are; kept up change by change. Pure.

Lines are looked after from when they are first asked about. What a change of a worker needs is worked out beforehand,
once for each record: thousands of jobs a second are given and taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.ids import WorkerId
from services.scheduler.placement.load_times import PLACES, VRAM
from services.scheduler.placement.placement import Seat, place_of

_MOST_LINES = 512  # beyond them all are forgotten and asked about again

ByPlace = Mapping[str, dict[WorkerId, None]]


@dataclass(frozen=True, slots=True)
class _Rule:
    """When a worker that has jobs takes one more of a line."""

    workers: dict[WorkerId, None]  # with the model in the same place, that take one now
    most: int | None  # rows in use beside which it fits; None: it counts jobs
    ahead: bool  # it may come before there are rows for it


class Takers:
    """An index over seats: `put` a seat whenever it changes."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}
        self._by_line: dict[str, ByPlace] = {}
        self._rules: dict[WorkerId, tuple[WorkerRecord, list[_Rule]]] = {}

    def shape(self, line: str) -> Shape:
        """Return the shape of the jobs of a line."""
        return self._shapes.get(line) or Shape.of_line(line)

    def of(self, line: str, seats: Mapping[WorkerId, Seat]) -> ByPlace:
        """Return who takes a job of a line, by place. Those put last come last."""
        if line not in self._shapes:
            self._learn(line, seats)
        return self._by_line[line]

    def put(self, seat: Seat) -> None:
        """Count a worker as it is now."""
        worker_id = seat.record.worker_id
        rules, takes_any = self._rules_of(seat), seat.takes_any
        some_free, ends, rows = seat.assigned < seat.record.rows, seat.ending >= 1, seat.rows
        for rule in rules:
            rule.workers.pop(worker_id, None)
            fits = some_free if rule.most is None or not seat.assigned else rows <= rule.most
            if takes_any and (fits or (ends and rule.ahead)):
                rule.workers[worker_id] = None

    def drop(self, worker_id: WorkerId) -> None:
        """Count a worker no longer."""
        _, rules = self._rules.pop(worker_id, (None, ()))
        for rule in rules:
            rule.workers.pop(worker_id, None)

    def _rules_of(self, seat: Seat) -> list[_Rule]:
        known = self._rules.get(seat.record.worker_id)
        if known is not None and known[0] is seat.record:
            return known[1]
        self.drop(seat.record.worker_id)
        rules = [self._rule(seat, line) for line, shape in self._shapes.items() if shape.model in seat.record.models]
        self._rules[seat.record.worker_id] = seat.record, rules
        return rules

    def _rule(self, seat: Seat, line: str) -> _Rule:
        shape = self._shapes[line]
        place, most = place_of(shape.model, seat.record), seat.most_for(shape)
        return _Rule(self._by_line[line][place], None if most is None else most - shape.rows, place == VRAM)

    def _learn(self, line: str, seats: Mapping[WorkerId, Seat]) -> None:
        if len(self._shapes) >= _MOST_LINES:
            self._shapes, self._by_line, self._rules = {}, {}, {}
        self._shapes[line], self._by_line[line] = Shape.of_line(line), {place: {} for place in PLACES}
        for seat in seats.values():
            known = self._rules.get(seat.record.worker_id)
            if known is not None and known[0] is seat.record and self._shapes[line].model in seat.record.models:
                known[1].append(self._rule(seat, line))
            self.put(seat)
