"""One tenant with many jobs beside some with few, played as `make bench/fairness` does."""

from __future__ import annotations

import pytest

from libs.ids import TenantId
from services.scheduler.order.ordering import Ordering
from tests.bench import fairness
from tests.bench.fluid import fill

SLACK = fairness.LOAD_S * fairness.UNITS_A_S
A, B, C = TenantId("a"), TenantId("b"), TenantId("c")


@pytest.mark.parametrize(("tier", "models", "slack"), [("pro", 1, 0.0), ("free", 4, SLACK), ("enterprise", 4, SLACK)])
def test_tenants_of_a_tier_stay_close(tier: str, models: int, slack: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "BIG", 1000)
    queued, ordering = fairness.jobs(tier, models), Ordering()
    fluid, _ = fairness.ideal(queued)
    for one in queued:
        ordering.add(one, 1.0)
    largest = max(one.units for one in queued)
    ours = fairness.play(queued, models, fairness.by_order(ordering), fluid)
    first_come = fairness.play(queued, models, fairness.first_come(queued), fluid)
    assert ours.worst_gap <= slack + largest < first_come.worst_gap


def test_without_loads_nobody_is_far_behind_the_fluid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "BIG", 1000)
    queued, ordering = fairness.jobs("pro", 1), Ordering()
    fluid, _ = fairness.ideal(queued)
    for one in queued:
        ordering.add(one, 1.0)
    ours = fairness.play(queued, 1, fairness.by_order(ordering), fluid)
    first_come = fairness.play(queued, 1, fairness.first_come(queued), fluid)
    assert max(ours.behind.values()) <= fairness.LARGEST < max(first_come.behind.values())


def test_the_fluid_is_shared_out_anew_whenever_somebody_has_enough() -> None:
    shares = fill({A: ("pro", 10.0), B: ("pro", 40.0), C: ("free", 30.0)}, {"pro": 2.0, "free": 1.0}, speed=3.0)
    assert [shares[name].when(shares[name].wants) for name in (A, B, C)] == pytest.approx([10.0, 25.0, 80 / 3])
    assert [shares[name].at(10.0) for name in (A, B, C)] == pytest.approx([10.0, 10.0, 10.0])
    assert shares[C].when(15.0) == pytest.approx(15.0)
