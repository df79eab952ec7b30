from __future__ import annotations

from libs.ids import WorkerId
from services.scheduler.forecast import demand
from services.scheduler.forecast.demand import ModelDemand, needed_workers


def measured() -> demand.Demand:
    waits = {"shapes@v1": (1, 30_000.0), "shapes@v2": (1, 10_000.0), "posters@v1": (1, 5_000.0)}
    runs = [("shapes@v1", "w0"), ("shapes@v1", "w0"), ("posters@v1", "w0"), ("posters@v1", "w1")]
    return demand.measure(waits, [(m, WorkerId(w)) for m, w in runs], lambda model: 0.002 if "v2" in model else 0.001)


def test_seconds_of_work_and_busy_workers_by_model() -> None:
    assert measured().of("shapes@v1") == ModelDemand(1, 30.0, 1)
    assert measured().of("shapes") == ModelDemand(2, 50.0, 1)
    assert measured().of("posters") == ModelDemand(1, 5.0, 2)
    assert measured().of("unheard of") == ModelDemand()


def test_a_worker_with_two_models_counts_once_in_all() -> None:
    assert measured().of("") == ModelDemand(3, 55.0, 2)


def test_needed_workers_drain_what_waits_in_time_beside_the_busy_ones() -> None:
    assert needed_workers(ModelDemand(9, 60.0, 2), 60.0) == 3
    assert needed_workers(ModelDemand(9, 60.1, 2), 60.0) == 4
    assert needed_workers(ModelDemand(1, 0.2, 0), 60.0) == 1
    assert needed_workers(ModelDemand(0, 0.0, 2), 60.0) == 2
    assert needed_workers(ModelDemand(), 60.0) == 0
