"""DeliveryService: gateways claim what is to be told and say what came of it. The same on every replica."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import grpc

from darkroom.scheduler.v1 import delivery_service_pb2 as pb
from darkroom.scheduler.v1 import delivery_service_pb2_grpc as pb_grpc
from libs.clock import Clock
from libs.webhooks.counting import Waiting
from services.scheduler.faults import told_to_callers
from services.scheduler.webhooks import wire
from services.scheduler.webhooks.store import DeliveryStore

Context = grpc.aio.ServicerContext[Any, Any]


def add_to(server: grpc.aio.Server, store: DeliveryStore, clock: Clock) -> None:
    """Serve deliveries; nothing of it needs to be asked of the leader."""
    pb_grpc.add_DeliveryServiceServicer_to_server(DeliveryServicer(store, clock, random.random), server)


class DeliveryServicer(pb_grpc.DeliveryServiceServicer):
    """Deliveries of webhooks. `jitter` returns a number from 0 to 1 for each try that is put off."""

    def __init__(self, store: DeliveryStore, clock: Clock, jitter: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._jitter = jitter
        self._waiting = Waiting(store.deliveries_waiting, clock)

    async def ClaimDeliveries(
        self, request: pb.ClaimDeliveriesRequest, _context: Context
    ) -> pb.ClaimDeliveriesResponse:
        """Lease deliveries that are due."""
        with told_to_callers():
            claimed = await self._store.claim_deliveries(wire.claim_from_pb(request, self._clock.now()))
            waiting = await self._waiting.deliveries()
        return pb.ClaimDeliveriesResponse(deliveries=[wire.delivery_to_pb(each) for each in claimed], waiting=waiting)

    async def ReportDelivery(self, request: pb.ReportDeliveryRequest, _context: Context) -> pb.ReportDeliveryResponse:
        """Note what came of a delivery; one that changes nothing any more is answered alike."""
        report = wire.report_from_pb(request, self._clock.now(), self._jitter())
        with told_to_callers():
            return wire.fate_to_pb(await self._store.report_delivery(report))
