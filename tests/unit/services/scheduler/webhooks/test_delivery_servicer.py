"""What gateways are answered about deliveries."""

from __future__ import annotations

from typing import Any, cast

from darkroom.scheduler.v1 import delivery_service_pb2 as pb
from libs.generation.webhook import FINAL_EVENTS, Webhook
from libs.testing.clock import ManualClock
from libs.webhooks.counting import COUNTED_EVERY_S
from libs.webhooks.tries import TRIED_FOR_S
from services.scheduler.delivery_servicer import DeliveryServicer
from services.scheduler.job import Change
from services.scheduler.storage.memory_store import MemoryStore
from tests.contract.job_store.samples import NOW, a_job, a_spec, an_ending

CONTEXT = cast("Any", None)
TOLD = a_spec(webhook=Webhook("https://hook.example/", FINAL_EVENTS))


async def ended(store: MemoryStore, number: int = 1) -> None:
    job = (await store.accept(a_job(number, spec=TOLD), ())).job
    assert await store.end(an_ending(job, 0, Change.CANCEL, epoch=0)) is not None


async def test_what_waits_is_counted_now_and_then_and_not_at_every_claim() -> None:
    store, clock = MemoryStore(), ManualClock(NOW)
    servicer = DeliveryServicer(store, clock, lambda: 0.5)
    request = pb.ClaimDeliveriesRequest(limit=0, lease_s=60)
    await ended(store, 1)
    assert (await servicer.ClaimDeliveries(request, CONTEXT)).waiting == 1
    await ended(store, 2)
    await clock.advance(COUNTED_EVERY_S - 1)
    assert (await servicer.ClaimDeliveries(request, CONTEXT)).waiting == 1
    await clock.advance(1)
    assert (await servicer.ClaimDeliveries(request, CONTEXT)).waiting == 2


async def test_a_report_is_answered_with_what_it_has_made_of_the_delivery() -> None:
    store, clock = MemoryStore(), ManualClock(NOW + TRIED_FOR_S + 100)
    servicer = DeliveryServicer(store, clock, lambda: 0.5)
    await ended(store)
    claimed = await servicer.ClaimDeliveries(pb.ClaimDeliveriesRequest(limit=1, lease_s=60), CONTEXT)
    [delivery] = claimed.deliveries

    async def fate(outcome: pb.ReportDeliveryRequest.Outcome.ValueType) -> int:
        report = pb.ReportDeliveryRequest(
            job_id=delivery.job_id, sequence=delivery.sequence, tries=delivery.tries, outcome=outcome
        )
        return (await servicer.ReportDelivery(report, CONTEXT)).fate

    assert await fate(pb.ReportDeliveryRequest.FAILED) == pb.ReportDeliveryResponse.DEAD
    assert await fate(pb.ReportDeliveryRequest.FAILED) == pb.ReportDeliveryResponse.UNSPECIFIED
