"""The index over the seats answers as looking at every seat would, whatever happened before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.fleet.model_rows import ModelRows
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.generation.attempt import StageDone
from libs.ids import JobId, WorkerId
from services.scheduler.operators.operations import Wished
from services.scheduler.placement.load_times import PRIOR_S
from services.scheduler.placement.placement import Obstacle, choose, place_of
from services.scheduler.placement.seats import Seats
from tests.unit.services.scheduler.fakes import record

MODELS = ("a@1", "b@1", "c@1")
NAMES = ("w0", "w1", "w2")
NOW = 1000.0
TOLD = (ModelRows("a@1", 0, (("16x16", 4), ("64x64", 1))),)
SHAPES = (Shape("a@1", 8, 2), Shape("a@1", 8, 1), Shape("a@1", 12, 2), Shape("b@1", 8, 2))


def following(*records: WorkerRecord) -> Seats:
    seats = Seats()
    seats.follow({each.worker_id: each for each in records}, NOW)
    return seats


def test_an_offer_is_the_load_from_the_nearest_place() -> None:
    warm = record("w0", models=MODELS, resident=("a@1",), residency=(("b@1", "ram"),))
    seats = following(warm)
    assert seats.offer_s("a@1") == 0.0
    assert seats.offer_s("b@1") == PRIOR_S["ram"]
    assert seats.offer_s("c@1") == PRIOR_S["disk"]
    assert seats.offer_s("d@1") is None
    seats.give(warm, JobId("j"), NOW)
    assert seats.offer_s("a@1") is None


def test_loads_are_learned_from_what_attempts_waited_for() -> None:
    seats = following(record("w0", models=MODELS))
    seats.loads.note_stages("a@1", "disk", [StageDone("load", 10.0, 14.0), StageDone("denoise", 14.0, 15.0)])
    assert seats.offer_s("a@1") == 4.0
    seats.loads.note("a@1", "disk", 14.0)
    assert seats.offer_s("a@1") == pytest.approx(7.0)
    seats.loads.note("a@1", "disk", -1.0)
    seats.loads.note("a@1", "vram", 100.0)
    assert seats.offer_s("a@1") == pytest.approx(7.0)
    seats.loads.note("c@1", "disk", 0.5)
    assert seats.loads.seconds("c@1", "ram") == 0.5, "from RAM it takes no longer than from disk"


def test_an_end_is_news_once_and_only_of_a_job_that_was_given() -> None:
    warm = record("w0", models=MODELS, resident=("a@1",))
    seats = following(warm)
    assert not seats.ends_soon(warm, JobId("j"), NOW)
    seats.give(warm, JobId("j"), NOW)
    assert seats.ends_soon(warm, JobId("j"), NOW)
    assert not seats.ends_soon(warm, JobId("j"), NOW)
    assert (seats.offer_s("a@1"), seats.offer_s("b@1")) == (0.0, None)
    seats.give(warm, JobId("ahead"), NOW)
    assert seats.offer_s("a@1") is None
    seats.take_back(warm, JobId("j"), NOW)
    assert seats.offer_s("a@1") is None, "the one given ahead has the row now"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("give"), st.sampled_from(NAMES), st.integers(0, 5)),
        st.tuples(st.just("take_back"), st.sampled_from(NAMES), st.integers(0, 5)),
        st.tuples(st.just("ends_soon"), st.sampled_from(NAMES), st.integers(0, 5)),
        st.tuples(st.just("rest"), st.sampled_from(NAMES), st.integers(1, 20)),
        st.tuples(st.just("drain"), st.sampled_from(NAMES), st.integers(0, 1)),
        st.tuples(st.just("restart"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("pass"), st.just(""), st.integers(1, 10)),
    ),
    max_size=30,
)


@given(STEPS)
def test_the_index_answers_as_a_look_at_every_seat(steps: list[tuple[str, str, int]]) -> None:
    now = NOW
    fleet = {WorkerId(n): record(n, rows=2, models=MODELS, resident=MODELS[:1], model_rows=TOLD) for n in NAMES}
    seats = following(*fleet.values())
    for what, name, number in steps:
        worker = fleet.get(WorkerId(name))
        if what == "pass":
            now += number
        elif what == "restart":
            changed = record(name, incarnation=str(now), rows=number, models=MODELS[:number], resident=MODELS[1:number])
            fleet = fleet | {WorkerId(name): changed}
            seats.follow(fleet, now)
        elif what == "drain":
            seats.wish(Wished(drained=frozenset([WorkerId(name)] if number else [])), now)
        elif what == "rest" and worker is not None:
            seats.rest(worker, now + number, now)
        elif worker is not None and what == "give":
            seats.give(worker, JobId(str(number)), now, shape=SHAPES[number % len(SHAPES)])
        elif worker is not None:
            getattr(seats, what)(worker, JobId(str(number)), now)
        seats.wake(now)
        check(seats)


def check(seats: Seats) -> None:
    everyone = list(seats.all())
    for line in (*MODELS, *(shape.line for shape in SHAPES)):
        model, takers = Shape.of_line(line).model, [seat for seat in everyone if seat.takes(line)]
        costs = [seats.loads.seconds(model, place_of(model, seat.record)) for seat in takers]
        assert seats.offer_s(line) == min(costs, default=None)
        chosen = seats.choose(line, (), ())
        assert chosen == choose(line, everyone)
        assert isinstance(chosen, Obstacle) == (not takers)
    assert seats.models() == {model for seat in everyone for model in MODELS if seat.takes(model)}
