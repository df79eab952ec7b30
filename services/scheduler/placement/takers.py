"""Which workers take the next job of a line, by where the weights of its model are; kept up change by change. Pure.

Lines are looked after from when they are first asked about.
"""

from __future__ import annotations

from collections.abc import Mapping

from libs.fleet.shapes import Shape
from libs.ids import WorkerId
from services.scheduler.placement.load_times import PLACES
from services.scheduler.placement.placement import Seat, place_of

_MOST_LINES = 2048  # beyond them all are forgotten and asked about again

ByPlace = Mapping[str, Mapping[WorkerId, None]]


class Takers:
    """An index over seats: `put` a seat whenever it changes."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}
        self._by_line: dict[str, dict[str, dict[WorkerId, None]]] = {}  # no line that nobody takes
        self._lines_of: dict[WorkerId, list[tuple[str, str]]] = {}  # with the place

    def of(self, line: str, seats: Mapping[WorkerId, Seat]) -> ByPlace | None:
        """Return who takes a job of a line; None when nobody does. Those put last come last."""
        if line not in self._shapes:
            self._learn(line, seats)
        return self._by_line.get(line)

    def put(self, seat: Seat) -> None:
        """Count a worker as it is now."""
        self.drop(seat.record.worker_id)
        if seat.takes_any:
            for line, shape in self._shapes.items():
                self._note(seat, line, shape)

    def drop(self, worker_id: WorkerId) -> None:
        """Count a worker no longer."""
        for line, place in self._lines_of.pop(worker_id, ()):
            places = self._by_line[line]
            del places[place][worker_id]
            if not any(places.values()):
                del self._by_line[line]

    def _learn(self, line: str, seats: Mapping[WorkerId, Seat]) -> None:
        if len(self._shapes) >= _MOST_LINES:
            self._shapes, self._by_line, self._lines_of = {}, {}, {}
        shape = self._shapes[line] = Shape.of_line(line)
        for seat in seats.values():
            self._note(seat, line, shape)

    def _note(self, seat: Seat, line: str, shape: Shape) -> None:
        if seat.takes_shape(shape):
            place, worker_id = place_of(shape.model, seat.record), seat.record.worker_id
            self._by_line.setdefault(line, {place: {} for place in PLACES})[place][worker_id] = None
            self._lines_of.setdefault(worker_id, []).append((line, place))
