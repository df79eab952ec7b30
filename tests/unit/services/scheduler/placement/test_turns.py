from __future__ import annotations

from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import Ordering, Waiting
from services.scheduler.placement.turns import turns


def queued(*models: str) -> Ordering:
    order = Ordering()
    for number, model in enumerate(models):
        order.add(Waiting(JobId(f"job_{number:03}"), TenantId("a"), "pro", model, 1.0, 100.0), now=2.0)
    return order


def test_models_have_their_turn_after_what_is_served_before() -> None:
    order = queued("a@1", "b@1", "a@1", "c@1")
    assert turns(order, ("a@1", "b@1", "c@1"), 2.0) == {"a@1": 0.0, "b@1": 100.0, "c@1": 300.0}
    assert turns(order, ("b@1", "d@1"), 2.0).get("d@1") is None
    assert len(order) == 4, "it was only looked at"


def test_what_is_far_away_is_not_looked_for() -> None:
    order = queued(*["a@1"] * 100, "b@1")
    assert turns(order, ("a@1", "b@1"), 2.0) == {"a@1": 0.0}
