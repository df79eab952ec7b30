"""Jobs placed by the rows that workers measured: as many as fit and one more, and nothing free while something fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.clients.modelserver import AttemptDone, Progress
from libs.fleet.model_rows import ModelRows
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.generation.attempt import ImageStored
from libs.ids import JobId, WorkerId
from services.scheduler.job import Job
from services.scheduler.placement.placement import Obstacle
from services.scheduler.placement.seats import Seats
from tests.unit.services.scheduler.fakes import MODEL, STEPS, Bench, FakeModelServer, record, silence, spec

M = MODEL.pinned
NOW = 1000.0
SMALL: dict[str, Any] = {"width": 128, "height": 128}
LARGE: dict[str, Any] = {"width": 512, "height": 512}
TOLD = ModelRows(M, 0, (("128x128", 8), ("512x512", 2)))


def measured(name: str = "w0", **changes: Any) -> WorkerRecord:
    return record(name, **{"rows": 3, "resident": (M,), "model_rows": (TOLD,), **changes})


SHAPES = st.builds(Shape, st.just(M), st.sampled_from((0, 14, 18)), st.integers(1, 8))
STEPS_TAKEN = st.lists(
    st.one_of(
        st.tuples(st.just("job"), SHAPES),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("soon"), st.integers(0, 9)),
    ),
    max_size=40,
)


@given(STEPS_TAKEN)
def test_what_is_given_fits_and_one_more_and_no_row_is_free_that_would_do(steps: list[tuple[str, object]]) -> None:
    fleet = {WorkerId(name): measured(name) for name in ("w0", "w1")}
    seats, running = Seats(), dict[JobId, WorkerRecord]()
    seats.follow(fleet, NOW)
    for number, (what, which) in enumerate(steps):
        if isinstance(which, Shape):
            take(seats, running, JobId(str(number)), which)
        elif running:
            job_id = list(running)[int(str(which)) % len(running)]
            if what == "end":
                seats.take_back(running.pop(job_id), job_id, NOW)
            else:
                seats.ends_soon(running[job_id], job_id, NOW)
        for seat in seats.all():
            assert seat.waits <= 1, "more than one is given ahead"


def take(seats: Seats, running: dict[JobId, WorkerRecord], job_id: JobId, shape: Shape) -> None:
    """Place a job as the dispatcher does; when there is no place, no worker has rows for it."""
    chosen = seats.choose(shape.line, (), ())
    assert (seats.offer_s(shape.line) is None) == isinstance(chosen, Obstacle)
    if isinstance(chosen, Obstacle):
        assert not any(seat.free_for(shape) for seat in seats.all())
    else:
        fitting = [seat.record for seat in seats.all() if seat.free_for(shape)]
        assert not fitting or chosen in fitting, "it is given ahead although it fits elsewhere"
        seats.give(chosen, job_id, NOW, shape=shape)
        running[job_id] = chosen


def test_sizes_that_nobody_measured_count_as_the_worker_says() -> None:
    seats, shape = Seats(), Shape(M, 30, 4)
    seats.follow({WorkerId("w0"): measured()}, NOW)
    for number in range(3):
        assert seats.offer_s(shape.line) == 0.0
        seats.give(measured(), JobId(str(number)), NOW, shape=shape)
    assert seats.offer_s(shape.line) is None


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def begin(bench: Bench, server: FakeModelServer, tier: str = "free", **changes: Any) -> Job:
    """Queue a job of two rows for each picture; once it is on the worker, let it draw a step."""
    job = await bench.submit(tier=tier, spec=spec(**changes))
    for order in server.orders:
        if order.job_id == job.id:
            server.say(order, Progress(order.attempt, 1, STEPS, 30.0))
    await bench.clock.advance(0.1)
    return job


async def end(bench: Bench, server: FakeModelServer, job: Job) -> None:
    order = next(order for order in server.orders if order.job_id == job.id)
    server.say(order, ImageStored(0, "0" * 64, "image/png", 128, 128, 7, 9), AttemptDone(5.0))
    await bench.clock.settle()


def orders(server: FakeModelServer) -> list[JobId]:
    return [order.job_id for order in server.orders]


async def test_a_worker_gets_as_many_as_their_rows_allow_and_no_large_one_beside(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(measured(), script=silence)
        small = [await begin(bench, server, **SMALL) for _ in range(3)]
        large = await begin(bench, server, **LARGE)
        passing = await begin(bench, server, **SMALL)
        assert orders(server) == [job.id for job in (*small, passing)], "what fits does not wait for what does not"
        behind = await begin(bench, server, **SMALL)
        for job in (*small, passing):
            await end(bench, server, job)
        assert orders(server)[4:] == [behind.id]
        await end(bench, server, behind)
        assert orders(server)[5:] == [large.id], "an idle worker takes it"
        await begin(bench, server, **LARGE)
        assert len(orders(server)) == 6, "one of them fills the worker"


async def test_a_large_job_has_its_turn_when_a_job_is_about_to_end(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(measured(), script=silence)
        small = [await begin(bench, server, **SMALL) for _ in range(4)]
        large = await begin(bench, server, **LARGE)
        await begin(bench, server, **SMALL)
        server.say(server.orders[0], Progress(1, 2, STEPS, 0.1))
        await bench.clock.settle()
        assert orders(server)[4:] == [large.id]
        for job in small[:3]:
            await end(bench, server, job)
        assert len(orders(server)) == 5, "nothing comes after it until it draws"
        await end(bench, server, small[3])
        assert len(orders(server)) == 6


async def test_as_many_are_parked_as_a_job_of_a_higher_tier_needs_and_their_rows_are_kept_for_it(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(measured(), script=silence)
        low = [await begin(bench, server, **SMALL) for _ in range(4)]
        later = await begin(bench, server, **SMALL)
        high = await begin(bench, server, "enterprise", images=2, **SMALL)
        assert server.moves == [("park", low[3].id), ("park", low[2].id)]
        assert orders(server) == [job.id for job in (*low, high)]
        await end(bench, server, high)
        assert server.moves[2:] == [("resume", low[2].id), ("resume", low[3].id)]
        await end(bench, server, low[0])
        assert orders(server)[-1] == later.id


async def test_nobody_is_parked_for_a_job_that_would_not_fit_all_the_same(bench: Bench) -> None:
    async with bench.running():
        (server,) = await bench.workers(measured(), script=silence)
        await begin(bench, server, "enterprise", **SMALL)
        await begin(bench, server, **SMALL)
        await begin(bench, server, "enterprise", **LARGE)
        assert server.moves == []
