"""A job that fits beside nobody has its turn while others fill the worker again and again."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from libs.clients.modelserver import AttemptDone, Order
from libs.fleet.model_rows import ModelRows
from libs.fleet.shapes import Shape
from libs.generation.attempt import ImageStored
from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import Ordering, Waiting
from services.scheduler.placement.held import BEHIND_S, BEHIND_UNITS, EVERY, held
from services.scheduler.placement.seats import Seats
from tests.unit.services.scheduler.fakes import MODEL, Bench, FakeModelServer, record, silence

M, COLD = MODEL.pinned, "cold@v1"
UNITS = 1000.0
SMALL, LARGE = Shape(M, 14, 1), Shape(M, 18, 1)
TOLD = ModelRows(M, 0, (("128x128", 16), ("512x512", 2)))
WORKER = record(rows=4, models=(M, COLD), resident=(M,), model_rows=(TOLD,))
FULL = 16
SOON = FULL + int(BEHIND_UNITS / UNITS) + 6 * EVERY  # starts of others; who is asked is drawn by chance


class Backlog:
    """A worker, more small jobs of its model than it will ever draw, and a clock that ticks once for each end."""

    def __init__(self, *others: Waiting, tells_ends: bool = False) -> None:
        self.order, self.seats = Ordering(), Seats()
        self.running, self.started = deque[JobId](), list[str]()
        self._tells_ends = tells_ends
        self._now = 100.0
        self.seats.follow({WORKER.worker_id: WORKER}, self._now)
        for number in range(1000):
            self.order.add(waiting(f"small-{number}", "many", SMALL.line), 0.0)
        self.serve(FULL)
        for other in others:
            self.order.add(other, 0.0)

    def serve(self, starts: int) -> list[str]:
        """Return the jobs that start, in order; of those that run the first ends when nobody is taken any more."""
        while len(self.started) < starts:
            if not self._start():
                self._end()
        return self.started

    def _start(self) -> bool:
        usual = self.order.next(self._taken, self._now)
        if usual is None:
            return False
        job = held(self.order, usual, WORKER, (self._taken, self._able), self._now)
        self.order.started(job.job_id, self._now)
        self.seats.give(WORKER, job.job_id, self._now, shape=Shape.of_line(job.line))
        self.running.append(job.job_id)
        self.started.append(job.job_id)
        return True

    def _end(self) -> None:
        self._now += 1.0
        job_id = self.running.popleft()
        if self._tells_ends and self.seats.ends_soon(WORKER, job_id, self._now):
            self._start()
        self.seats.take_back(WORKER, job_id, self._now)
        self.order.settled(job_id, UNITS)

    def _taken(self, line: str) -> float | None:
        seconds = self.seats.offer_s(line)
        return None if seconds is None else seconds * 1000.0

    def _able(self, line: str) -> float | None:
        return self.seats.loads.seconds(Shape.of_line(line).model, "disk") * 1000.0


def waiting(name: str, tenant: str, line: str, queued_at: float = 0.0) -> Waiting:
    return Waiting(JobId(name), TenantId(tenant), "pro", Shape.of_line(line).model, queued_at, UNITS, shape=line)


@pytest.mark.parametrize("tells_ends", [True, False], ids=["ends are told ahead", "they are not"])
@pytest.mark.parametrize("line", [Shape(COLD, 14, 1).line, LARGE.line], ids=["to be loaded", "large"])
def test_who_fits_beside_nobody_starts_within_a_load_of_others(line: str, tells_ends: bool) -> None:
    started = Backlog(waiting("other", "owed", line), tells_ends=tells_ends).serve(300)
    assert "other" in started[:SOON]


def test_within_the_slack_those_that_fit_go_first() -> None:
    started = Backlog(waiting("other", "owed", Shape(COLD, 14, 1).line)).serve(300)
    assert started.index("other") >= FULL + BEHIND_UNITS / UNITS


def test_one_that_came_just_now_holds_nothing() -> None:
    backlog = Backlog(waiting("other", "owed", Shape(COLD, 14, 1).line, queued_at=1e9))
    assert "other" not in backlog.serve(300)


def test_those_that_are_alone_fill_the_worker_as_before() -> None:
    backlog = Backlog()
    assert backlog.serve(300) == [f"small-{number}" for number in range(300)]
    assert len(backlog.running) == FULL
    everything_elsewhere = Backlog(waiting("other", "owed", Shape("elsewhere@v1", 14, 1).line))
    assert everything_elsewhere.serve(300) == [f"small-{number}" for number in range(300)]


async def test_the_dispatcher_holds_a_worker_for_it() -> None:
    bench = Bench()
    async with bench.running():
        (server,) = await bench.workers(replace(WORKER, rows=1), script=silence)
        for number in range(100):
            await bench.submit(id=JobId(f"small-{number}"), estimated_units=20 * UNITS)
        await bench.submit(id=JobId("other"), tenant_id=TenantId("owed"), model_version=COLD, model="cold")
        await bench.clock.advance(BEHIND_S + 1.0)
        ended = 0
        while ended < 80 and JobId("other") not in orders(server):
            end(server, server.orders[ended])
            ended += 1
            await bench.clock.settle()
        assert orders(server)[-1] == "other"
        for order in server.orders[ended:-1]:
            assert orders(server)[-1] == "other", "nothing comes after it until it draws"
            end(server, order)
            await bench.clock.settle()


def orders(server: FakeModelServer) -> list[JobId]:
    return [order.job_id for order in server.orders]


def end(server: FakeModelServer, order: Order) -> None:
    server.say(order, ImageStored(0, "0" * 64, "image/png", 128, 128, 7, 9), AttemptDone(20 * UNITS))
