"""The index over the seats answers as looking at every seat would, whatever happened before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.fleet.model_rows import ModelRows
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.generation.attempt import StageDone
from libs.ids import JobId, WorkerId
from services.scheduler.operators.operations import Wished
from services.scheduler.placement import takers
from services.scheduler.placement.load_times import PRIOR_S
from services.scheduler.placement.placement import Obstacle, Seat, choose, place_of
from services.scheduler.placement.seats import AWAY_S, Seats, key_of
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
        st.tuples(st.just("load"), st.sampled_from(NAMES), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.sampled_from(NAMES), st.integers(0, 3)),
        st.tuples(st.just("pass"), st.just(""), st.integers(1, 10)),
    ),
    max_size=30,
)


@pytest.mark.parametrize("lines", [takers.MOST_LINES, 2], ids=["all lines are known", "most are forgotten"])
@given(steps=STEPS)
def test_the_index_answers_as_a_look_at_every_seat(lines: int, steps: list[tuple[str, str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(takers, "MOST_LINES", lines)
        go(steps)


def go(steps: list[tuple[str, str, int]]) -> None:
    now = NOW
    fleet = {WorkerId(n): record(n, rows=2, models=MODELS, resident=MODELS[:1], model_rows=TOLD) for n in NAMES}
    seats = following(*fleet.values())
    for what, name, number in steps:
        worker = fleet.get(WorkerId(name))
        if what == "pass":
            now += number
        elif what == "load" and worker is not None:
            fleet = fleet | {WorkerId(name): replace(worker, load_share=number / 10, rows_in_use=number)}
            seats.follow(fleet, now)
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
        model, taking = Shape.of_line(line).model, [seat for seat in everyone if seat.takes(line)]
        costs = [seats.loads.seconds(model, place_of(model, seat.record)) for seat in taking]
        assert seats.offer_s(line) == min(costs, default=None)
        chosen = seats.choose(line, (), ())
        assert chosen == choose(line, everyone)
        assert isinstance(chosen, Obstacle) == (not taking)
    assert seats.models() == {model for seat in everyone for model in MODELS if seat.takes(model)}


def test_rules_are_made_once_for_each_line_and_worker_and_again_only_when_what_it_can_draw_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, rule = list[str](), takers.Takers._rule

    def counted(self: takers.Takers, seat: Seat, line: str) -> takers._Rule:
        made.append(line)
        return rule(self, seat, line)

    monkeypatch.setattr(takers.Takers, "_rule", counted)
    monkeypatch.setattr(takers, "MOST_LINES", 2)
    fleet = {WorkerId(name): record(name, models=MODELS) for name in NAMES}
    seats = following(*fleet.values())
    for model in ("a@1", "b@1", "a@1"):
        seats.offer_s(model)
    assert made == ["a@1"] * 3 + ["b@1"] * 3
    seats.follow({name: replace(worker, load_share=0.5, rows_in_use=1) for name, worker in fleet.items()}, NOW)
    assert len(made) == 6
    seats.follow({name: replace(worker, resident=("a@1",)) for name, worker in fleet.items()}, NOW)
    assert len(made) == 12
    seats.offer_s("c@1")
    seats.offer_s("a@1")
    assert made[12:] == ["c@1"] * 3, "the one not asked about for longest was forgotten"
    assert seats.offer_s("b@1") is not None


def test_who_is_gone_for_good_leaves_nothing_behind() -> None:
    worker = record("w0")
    seats = following(worker)
    seats.expect(worker.worker_id, JobId("j"), NOW)
    seats.expect_no_more(worker.worker_id, JobId("j"), NOW)
    assert not seats._expected
    seats.keep_apart(key_of(worker), NOW + 10.0, NOW)
    seats.follow({}, NOW + 20.0)
    seats.follow({worker.worker_id: worker}, NOW + 30.0)
    seats.give(worker, JobId("k"), NOW + 30.0)
    (seat,) = seats.all()
    assert seat.resting, "it is back, and still on trial"
    seats.take_back(worker, JobId("k"), NOW + 30.0)
    seats.follow({}, NOW + 40.0)
    seats.follow({}, NOW + 10.0 + AWAY_S)
    assert not seats._apart
