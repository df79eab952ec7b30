"""Calls to the scheduler's DeliveryService: what is to be told to webhooks, and what came of it.

Every failure is a DarkroomError: the scheduler's own, or Unavailable with `part: scheduler` when it did not answer.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from darkroom.scheduler.v1 import delivery_service_pb2 as pb
from darkroom.scheduler.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from darkroom.v1 import job_pb2
from libs.clients.deliveries import Busy, Claimed, Delivery, Result
from libs.clients.scheduler import PEER
from libs.ids import JobId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated
from libs.telemetry import tracing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobDelivery(Delivery):
    """An event of a job; `state` is a name of the public enum."""

    job_id: JobId
    sequence: int
    event: str
    state: str
    model: str
    model_version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    error_reason: str = ""
    image_index: int | None = None

    @property
    def id(self) -> str:
        """Job and sequence."""
        return f"{self.job_id}_{self.sequence}"

    @property
    def subject(self) -> Mapping[str, object]:
        """The job and what happened to it."""
        return {"job_id": self.job_id, "sequence": self.sequence}


class JobDeliveryClient:
    """One channel's worth of DeliveryService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = DeliveryServiceStub(channel)

    async def claim(self, limit: int, lease_s: float, busy: Busy) -> Claimed[JobDelivery]:
        """Lease deliveries that are due, none to those who are busy."""
        receivers = [pb.BusyReceiver(tenant_id=tenant, host=host) for tenant, host in busy.receivers]
        request = pb.ClaimDeliveriesRequest(
            limit=limit, lease_s=lease_s, busy_receivers=receivers, busy_tenants=busy.tenants
        )
        with translated(PEER), tracing.untraced():  # it is asked every second, mostly for nothing
            answer = await self._stub.ClaimDeliveries(request, timeout=deadlines.COMMIT_S)
        read = [(each, _read(each)) for each in answer.deliveries]
        unreadable = tuple(_name(each) for each, delivery in read if delivery is None)
        return Claimed(tuple(delivery for _, delivery in read if delivery), answer.waiting, unreadable)

    async def report(self, delivery: JobDelivery, result: Result) -> bool:
        """Say what came of a try, and return whether it was the last one of those that all failed."""
        request = pb.ReportDeliveryRequest(
            job_id=delivery.job_id,
            sequence=delivery.sequence,
            tries=delivery.tries,
            outcome=pb.ReportDeliveryRequest.Outcome.Value(result.outcome.value),
            status=result.status,
            reason=result.reason,
            retry_after_s=result.retry_after_s,
        )
        with translated(PEER):
            answer = await self._stub.ReportDelivery(request, timeout=deadlines.COMMIT_S)
        return answer.fate == pb.ReportDeliveryResponse.DEAD


def _read(message: pb.Delivery) -> JobDelivery | None:
    try:
        return _delivery(message)
    except (ValueError, OverflowError):
        logger.exception("a delivery cannot be read", extra={"job_id": message.job_id, "sequence": message.sequence})
        return None


def _name(message: pb.Delivery) -> JobDelivery:
    """Return no more than whose it is and where it goes: that can be read whoever wrote it."""
    return JobDelivery(
        job_id=JobId(message.job_id),
        sequence=message.sequence,
        tries=message.tries,
        tenant_id=TenantId(message.tenant_id),
        url=message.url,
        host=message.host,
        event="",
        time=0.0,
        state="",
        model="",
        model_version="",
    )


def _delivery(message: pb.Delivery) -> JobDelivery:
    return dataclasses.replace(
        _name(message),
        event=message.event,
        time=message.time.ToNanoseconds() / 1e9,
        state=job_pb2.Job.State.Name(message.state),
        model=message.model,
        model_version=message.model_version,
        labels=dict(message.labels),
        error_reason=message.error_reason,
        image_index=message.image_index if message.HasField("image_index") else None,
    )
