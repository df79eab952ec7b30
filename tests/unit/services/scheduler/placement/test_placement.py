from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.ids import WorkerId
from services.scheduler.placement.placement import Obstacle, Seat, choose
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


def test_a_model_in_ram_is_nearer_than_one_on_disk() -> None:
    on_disk, in_ram = Seat(record("a", rows=8)), Seat(record("b", residency=((M, "ram"),)))
    assert choose(M, [on_disk, in_ram]) == in_ram.record


def test_a_cold_model_goes_where_it_pushes_out_nobody() -> None:
    wanted, idle = Seat(record("a", resident=("busy@1",))), Seat(record("b", resident=("idle@1",)))
    assert choose(M, [wanted, idle], needed=("busy@1", M)) == idle.record
    pinned = Seat(record("c"), pinned=("pinned@1",))
    assert choose(M, [pinned, idle], needed=()) == idle.record
    full = Seat(record("a", memory_bytes=10, memory_used_bytes=9))
    empty = Seat(record("b", memory_bytes=10, memory_used_bytes=1))
    assert choose(M, [full, empty]) == empty.record


def test_who_holds_what_we_did_not_give_comes_after_the_idle() -> None:
    foreign, idle = Seat(record("a", load_share=1.0)), Seat(record("b"))
    assert choose(M, [foreign, idle]) == idle.record


def test_a_drained_worker_takes_nothing() -> None:
    assert choose(M, [Seat(record(), drained=True)]) is Obstacle.ALL_DRAINING


def test_one_job_is_given_ahead_when_another_is_about_to_end() -> None:
    warm = record(resident=(M,))
    assert choose(M, [Seat(warm, assigned=1)]) is Obstacle.ALL_BUSY
    assert choose(M, [Seat(warm, assigned=1, ending=1)]) == warm
    assert choose(M, [Seat(warm, assigned=2, ending=2)]) is Obstacle.ALL_BUSY
    assert choose(M, [Seat(record(), assigned=1, ending=1)]) is Obstacle.ALL_BUSY, "its load would wait for the end"


SEATS = st.lists(
    st.builds(
        lambda name, rows, assigned, draining, resting, has, ending: Seat(
            record(name, rows=rows, draining=draining, models=(M,) if has else (), resident=(M,) if has else ()),
            assigned,
            resting,
            ending=ending,
        ),
        st.sampled_from("abcdef"),
        st.integers(0, 3),
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.integers(0, 2),
    ),
    max_size=6,
)


@given(SEATS)
def test_is_work_conserving_and_never_overfills(seats: list[Seat]) -> None:
    chosen = choose(M, seats)
    fits = [s.record for s in seats if s.free and M in s.record.models]
    takers = [s for s in seats if s.record is chosen]
    assert chosen in fits if fits else not isinstance(chosen, Obstacle) or not any(s.takes(M) for s in seats)
    assert all(s.assigned <= s.record.rows for s in takers), "more than one ahead"
