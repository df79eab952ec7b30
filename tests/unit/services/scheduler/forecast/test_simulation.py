"""The simulation against cases whose outcome can be worked out by hand, and laws that hold for every case."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.fleet.shapes import Shape
from libs.ids import JobId, TenantId
from services.scheduler.forecast.simulation import Costs, Rest, SimulatedWorker, Simulation
from services.scheduler.order.ordering import Ordering, Waiting

NOW = 1000.0
COSTS = Costs(lambda _worker, _model: 0.001, lambda _worker, _model: 10.0)


def waiting(name: str, units: float = 1000.0, **changes) -> Waiting:
    fields = {"tenant_id": TenantId("acme"), "tier": "pro", "model_version": "m@1", "queued_at": NOW}
    return Waiting(job_id=JobId(name), units=units, **{**fields, **changes})


class Fifo:
    """The plainest order there is."""

    def __init__(self, *jobs: Waiting) -> None:
        self.jobs = list(jobs)

    def wake(self, now: float) -> None:
        pass

    def next_wake(self) -> float | None:
        return min((job.not_before for job in self.jobs if job.not_before), default=None)

    def next(self, offer: Callable[[str], float | None], now: float) -> Waiting | None:
        taken = (job for job in self.jobs if job.not_before <= now and offer(job.model_version) is not None)
        return next(taken, None)

    def started(self, job_id: JobId, now: float) -> None:
        self.jobs = [job for job in self.jobs if job.job_id != job_id]

    def settled(self, job_id: JobId, actual_units: float) -> None:
        pass


def real(*jobs: Waiting) -> Ordering:
    ordering = Ordering()
    for job in jobs:
        ordering.add(job, NOW)
    return ordering


def worker(
    name: str = "w0", *models: str, resident: Sequence[str] = (), free: int = 1, room: int = 1
) -> SimulatedWorker:
    return SimulatedWorker(name, frozenset(models or ("m@1",)), list(resident), free, room)


def starts(simulation: Simulation) -> dict[str, float]:
    assert simulation.run(10_000)
    return {job_id: start.at - NOW for job_id, start in simulation.starts.items()}


def test_one_worker_takes_jobs_one_after_the_other() -> None:
    line = Fifo(*(waiting(f"j{i}", 1000.0 * (i + 1), queued_at=NOW - 10 + i) for i in range(4)))
    simulation = Simulation(line, [worker(resident=["m@1"])], COSTS, NOW)
    assert starts(simulation) == {"j0": 0.0, "j1": 1.0, "j2": 3.0, "j3": 6.0}
    assert [simulation.starts[JobId(f"j{i}")].place for i in range(4)] == [1, 2, 3, 4]


def test_the_higher_tier_goes_first() -> None:
    line = real(waiting("free", tier="free"), waiting("enterprise", tier="enterprise"))
    simulation = Simulation(line, [worker(resident=["m@1"])], COSTS, NOW)
    assert starts(simulation) == {"enterprise": 0.0, "free": 1.0}


def test_running_jobs_hold_their_rows_for_what_is_left_of_them() -> None:
    simulation = Simulation(Fifo(waiting("j")), [worker(resident=["m@1"], free=0)], COSTS, NOW)
    simulation.busy([Rest(JobId("runs"), 0, 2.5, 5000.0)])
    assert starts(simulation) == {"j": 2.5}
    assert simulation.busy_s == 2.5


def test_a_load_is_counted_once_and_said() -> None:
    line = Fifo(waiting("a", queued_at=NOW - 2), waiting("b", queued_at=NOW - 1))
    simulation = Simulation(line, [worker()], COSTS, NOW)
    assert starts(simulation) == {"a": 0.0, "b": 11.0}
    assert [simulation.starts[JobId(name)].after_load for name in "ab"] == [True, False]


def test_a_second_row_waits_for_the_load_of_the_first() -> None:
    line = Fifo(*(waiting(name, queued_at=NOW - 3 + i) for i, name in enumerate("abc")))
    simulation = Simulation(line, [worker(free=2)], COSTS, NOW)
    assert starts(simulation) == {"a": 0.0, "b": 0.0, "c": 11.0}
    assert simulation.starts[JobId("b")].after_load


def test_models_take_turns_where_only_one_fits() -> None:
    line = Fifo(
        waiting("a", model_version="m@1", queued_at=NOW - 3),
        waiting("b", model_version="n@1", queued_at=NOW - 2, tier="free"),
        waiting("c", model_version="m@1", queued_at=NOW - 1, tier="anonymous"),
    )
    simulation = Simulation(line, [worker("w0", "m@1", "n@1", resident=["m@1"])], COSTS, NOW)
    assert starts(simulation) == {"a": 0.0, "b": 1.0, "c": 12.0}
    roomy = Simulation(
        Fifo(waiting("b", model_version="n@1"), waiting("c", model_version="m@1", tier="free")),
        [worker("w0", "m@1", "n@1", resident=["m@1"], room=2)],
        COSTS,
        NOW,
    )
    starts(roomy)
    assert not roomy.starts[JobId("c")].after_load


def test_a_job_goes_where_its_model_is_loaded() -> None:
    workers = [worker("cold"), worker("warm", resident=["m@1"])]
    simulation = Simulation(Fifo(waiting("j")), workers, COSTS, NOW)
    starts(simulation)
    assert not simulation.starts[JobId("j")].after_load


def test_a_retry_starts_when_it_is_due() -> None:
    simulation = Simulation(Fifo(waiting("j", not_before=NOW + 4)), [worker(resident=["m@1"])], COSTS, NOW)
    assert starts(simulation) == {"j": 4.0}


def test_what_nobody_can_take_never_starts() -> None:
    simulation = Simulation(Fifo(waiting("j", model_version="x@1")), [worker()], COSTS, NOW)
    assert starts(simulation) == {}


def test_rows_are_used_as_the_worker_measured_them() -> None:
    small, large = Shape("m@1", 14, 2), Shape("m@1", 18, 2)
    jobs = [("s0", small), ("s1", small), ("large", large), ("s2", small)]
    line = real(*(waiting(name, 1000.0, queued_at=NOW + i, shape=s.line) for i, (name, s) in enumerate(jobs)))
    measured = {("m@1", 14): 6, ("m@1", 18): 2}
    simulation = Simulation(line, [SimulatedWorker("w", frozenset(["m@1"]), ["m@1"], 1, most=measured)], COSTS, NOW)
    assert starts(simulation) == {"s0": 0.0, "s1": 0.0, "s2": 0.0, "large": 1.0}
    held = SimulatedWorker("w", frozenset(["m@1"]), ["m@1"], -2, jobs=3, rows=2, most={("m@1", 14): 6})
    assert held.takes(Shape("m@1"))
    assert not held.takes(Shape("m@1", 20))


def test_slices_change_nothing() -> None:
    def jobs() -> Ordering:
        return real(*(waiting(f"j{i:03}", 500.0 + i, queued_at=NOW - 100 + i) for i in range(50)))

    whole = Simulation(jobs(), [worker(), worker("w1")], COSTS, NOW)
    sliced = Simulation(jobs(), [worker(), worker("w1")], COSTS, NOW)
    slices = 0
    while not sliced.run(7):
        slices += 1
    assert starts(whole) == starts(sliced)
    assert slices >= 7


jobs_of_all_kinds = st.lists(
    st.tuples(
        st.sampled_from(("pro", "free")), st.sampled_from("abc"), st.sampled_from(("m@1", "n@1")), st.integers(1, 9)
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(jobs_of_all_kinds, st.integers(1, 3), st.integers(1, 2))
def test_every_job_starts_once_and_no_row_holds_two(
    jobs: list[tuple[str, str, str, int]], count: int, rows: int
) -> None:
    line = real(
        *(
            waiting(f"j{i}", units * 100.0, tier=tier, tenant_id=TenantId(tenant), model_version=model)
            for i, (tier, tenant, model, units) in enumerate(jobs)
        )
    )
    workers = [worker(f"w{i}", "m@1", "n@1", free=rows) for i in range(count)]
    simulation = Simulation(line, workers, COSTS, NOW)
    begun = starts(simulation)
    assert len(begun) == len(jobs)
    assert [each.free for each in workers] == [rows] * count
    for moment in begun.values():  # jobs that have begun and, without any load, cannot be over yet
        drawing = sum(at <= moment < at + jobs[int(name[1:])][3] * 0.1 - 1e-6 for name, at in begun.items())
        assert drawing <= count * rows
