from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.fleet.record import WorkerRecord
from libs.ids import WorkerId
from services.scheduler.placement import Obstacle, Seat, choose, feasible
from tests.unit.services.scheduler.fakes import MODEL, record

M = MODEL.pinned


def test_each_obstacle_has_its_name() -> None:
    assert choose(M, []) is Obstacle.NO_WORKER
    assert choose("other@1", [Seat(record())]) is Obstacle.NO_MODEL
    assert choose(M, [Seat(record(draining=True)), Seat(record("w1", models=()))]) is Obstacle.ALL_DRAINING
    assert choose(M, [Seat(record(), assigned=1), Seat(record("w1"), resting=True)]) is Obstacle.ALL_BUSY


def test_prefers_the_loaded_then_the_freest_and_avoids_last() -> None:
    cold, warm = Seat(record("a", rows=8)), Seat(record("b", resident=(M,)))
    assert choose(M, [cold, warm]) == warm.record
    assert choose(M, [cold, warm], avoid=[WorkerId("b")]) == cold.record
    assert choose(M, [warm], avoid=[WorkerId("b")]) == warm.record
    free, freer = Seat(record("a", rows=4), 3), Seat(record("b", rows=4), 1)
    assert choose(M, [free, freer]) == freer.record


SEATS = st.lists(
    st.builds(
        lambda name, rows, assigned, draining, resting, has: Seat(
            record(name, rows=rows, draining=draining, models=(M,) if has else ()), assigned, resting
        ),
        st.sampled_from("abcdef"),
        st.integers(0, 3),
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
)


@given(SEATS)
def test_is_work_conserving_and_never_overfills(seats: list[Seat]) -> None:
    chosen = choose(M, seats)
    fits = [s.record for s in seats if s.free and M in s.record.models]
    assert chosen in fits if fits else isinstance(chosen, Obstacle)


def test_a_job_is_feasible_while_somebody_stays_who_can() -> None:
    def fleet(*records: WorkerRecord) -> dict[WorkerId, WorkerRecord]:
        return {r.worker_id: r for r in records}

    assert feasible(M, fleet(record(rows_in_use=1)))
    assert not feasible(M, fleet(record(draining=True), record("w1", models=())))
