"""Usage, as operators read it; the channel carries the operator token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc

from darkroom.ratelimiter.v1 import usage_service_pb2 as pb
from darkroom.ratelimiter.v1 import usage_service_pb2_grpc as rpc
from libs.ids import KeyId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated

PARTS = ("day", "tenant", "key", "model")


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which usage, and what to add it up by; empty leaves open. Days of UTC like `2026-11-21`, both included."""

    by: tuple[str, ...] = ()
    tenant_id: str = ""
    key_id: str = ""
    model: str = ""
    from_day: str = ""
    to_day: str = ""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """Usage of one part; what it was not added up by is empty. Money in millionths."""

    day: str
    tenant_id: TenantId
    key_id: KeyId
    model_version: str
    jobs: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    images: int
    gpu_ms: float
    actual_units: float
    charged_units: float
    micros: int
    succeeded_gpu_ms: float


class UsageClient:
    """Typed calls. Failures are domain errors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._service: rpc.UsageServiceAsyncStub = rpc.UsageServiceStub(channel)

    async def read(self, wanted: UsageFilter) -> AsyncIterator[UsageRecord]:
        """Give usage as it is read, in the order of the parts. Raises InvalidRequest."""
        request = pb.ReadUsageRequest(
            tenant_id=wanted.tenant_id,
            key_id=wanted.key_id,
            model=wanted.model,
            from_day=wanted.from_day,
            to_day=wanted.to_day,
            by=wanted.by,
        )
        with translated("rate limiter"):
            async for line in self._service.ReadUsage(request, timeout=deadlines.EXPORT_S):
                yield record_from_pb(line)


def record_from_pb(line: pb.UsageLine) -> UsageRecord:
    """Return usage that came over the wire."""
    return UsageRecord(
        line.day,
        TenantId(line.tenant_id),
        KeyId(line.key_id),
        line.model_version,
        line.jobs,
        line.succeeded,
        line.failed,
        line.cancelled,
        line.expired,
        line.images,
        line.gpu_ms,
        line.actual_units,
        line.charged_units,
        line.micros,
        line.succeeded_gpu_ms,
    )
