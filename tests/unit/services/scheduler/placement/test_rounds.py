from __future__ import annotations

from libs.ids import JobId, WorkerId
from services.scheduler.placement.preemption import Parked
from services.scheduler.placement.rounds import MANY, PAUSE_S_PER_WORKER, Rounds
from tests.unit.services.scheduler.fakes import record

NOW = 1000.0
PAUSE_S = MANY * PAUSE_S_PER_WORKER


def parked(count: int) -> dict[WorkerId, list[Parked]]:
    names = [WorkerId(f"w{number}") for number in range(count)]
    return {name: [Parked(JobId(f"j-{name}"), "free", record(name), NOW)] for name in names}


def test_a_few_are_looked_at_each_time() -> None:
    rounds, few = Rounds(), parked(MANY - 1)
    for _ in range(3):
        assert len(list(rounds.each(lambda: few, NOW))) == len(few)
        next(rounds.each(lambda: few, NOW))
    assert rounds.next_moment() is None


def test_many_are_looked_at_once_in_a_while_and_again_when_that_was_put_off() -> None:
    rounds, many = Rounds(), parked(MANY)
    assert len(list(rounds.each(lambda: many, NOW))) == MANY
    assert rounds.next_moment() is None
    assert list(rounds.each(lambda: many, NOW)) == []
    assert rounds.next_moment() == NOW + PAUSE_S
    assert len(list(rounds.each(lambda: many, NOW + PAUSE_S))) == MANY
    assert rounds.next_moment() is None


def test_a_round_of_many_goes_on_where_it_found_something() -> None:
    rounds, many = Rounds(), parked(MANY)
    found = [next(rounds.each(lambda: many, NOW)) for _ in range(3)]
    rest = list(rounds.each(lambda: many, NOW + 1.0))
    assert sorted(str(jobs[0].job_id) for jobs in (*found, *rest)) == sorted(
        str(jobs[0].job_id) for jobs in many.values()
    )
    assert rounds.next_moment() == NOW + 1.0 + PAUSE_S, "what changed during the round is seen in the next one"


def test_after_many_a_few_are_looked_at_each_time_again() -> None:
    rounds, many, few = Rounds(), parked(MANY), parked(2)
    assert list(rounds.each(lambda: many, NOW))
    for later in (1.0, 1.0, 2.0):
        assert len(list(rounds.each(lambda: few, NOW + later))) == 2
