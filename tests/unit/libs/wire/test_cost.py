from __future__ import annotations

import random

from darkroom.scheduler.v1 import scheduler_service_pb2 as pb
from libs.generation.cost import CostEntry
from libs.wire.cost import cost_from_pb, cost_to_pb
from tests.unit.libs.generation.test_calibration import calibrated, mixed, small_machine


def test_prices_survive_the_wire() -> None:
    entry = calibrated(small_machine, 100, noise=0.2).entry()
    again = cost_from_pb(pb.CostEntry.FromString(cost_to_pb("m@1", entry).SerializeToString()))
    assert again == entry
    assert len(again.buckets) > 10


def test_a_scheduler_that_does_not_measure_tells_the_prior() -> None:
    told = pb.CostEntry(model_version="m@1", fixed=40.0, per_mp=440.0, per_mp2=60.0, guided=2.0)
    assert cost_from_pb(told) == CostEntry()


def test_a_gateway_that_knows_only_coefficients_prices_near_the_middle() -> None:
    entry, rng = calibrated(small_machine, 300).entry(), random.Random(1)
    plain = CostEntry(entry.fixed, entry.per_mp, entry.per_mp2, entry.guided)
    for asked in (mixed(rng) for _ in range(50)):
        if asked.width >= 256 and asked.steps >= 8:
            assert 0.5 <= plain.high_units(asked) / entry.high_units(asked) <= 1.5
