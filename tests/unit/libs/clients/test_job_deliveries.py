"""Deliveries as a gateway reads them, and those that it cannot read."""

from __future__ import annotations

from typing import Any, cast

import pytest

from darkroom.scheduler.v1 import delivery_service_pb2 as pb
from libs.clients import job_deliveries
from libs.clients.deliveries import Busy
from libs.clients.job_deliveries import JobDeliveryClient


class Stub:
    """Answers every claim with one delivery that can be read and one of a state that is not known yet."""

    def __init__(self, _channel: Any) -> None:
        pass

    async def ClaimDeliveries(self, _request: pb.ClaimDeliveriesRequest, timeout: float) -> pb.ClaimDeliveriesResponse:
        known, new = pb.Delivery(job_id="job_1", sequence=2, tries=1), pb.Delivery(job_id="job_2", sequence=3, tries=4)
        new.state = 99  # type: ignore[assignment]
        return pb.ClaimDeliveriesResponse(deliveries=[new, known], waiting=2)


async def test_one_that_cannot_be_read_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_deliveries, "DeliveryServiceStub", Stub)
    claimed = await JobDeliveryClient(cast("Any", None)).claim(9, 60.0, Busy())
    assert [each.job_id for each in claimed.deliveries] == ["job_1"]
    assert [(each.job_id, each.sequence, each.tries) for each in claimed.unreadable] == [("job_2", 3, 4)]
