"""The rate limiter as gateway and scheduler call it; a limiter that is gone is Unavailable, LIMITER_DEGRADED."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from darkroom.ratelimiter.v1 import limiter_service_pb2 as pb
from darkroom.ratelimiter.v1 import limiter_service_pb2_grpc as rpc
from libs.errors import Unavailable
from libs.ids import JobId, KeyId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated

_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is asked for; its id is the job's. `units` as in libs.generation.cost."""

    reservation_id: JobId
    tenant_id: TenantId
    tier: str
    units: float
    images: int


@dataclass(frozen=True, slots=True)
class Denial:
    """The limit that binds: `requests`, `cost`, or `tier` for what never fits.

    `limit` is a minute's grant, for `tier` the most that fits at once; `retry_after_s` is 0 when waiting is no help.
    """

    dimension: str
    limit: float
    available: float
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision; `headers` (names in lower case) belong on the answer to the caller, denied or not."""

    denial: Denial | None
    headers: Sequence[tuple[str, str]]
    available_units: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a job came to cost; `outcome` is `succeeded`, `failed`, `cancelled` or `expired`."""

    reservation_id: JobId
    tenant_id: TenantId
    tier: str
    key_id: KeyId
    reserved_units: float
    actual_units: float
    charged_units: float
    images: int
    model_version: str
    outcome: str
    gpu_ms: float


class LimiterClient:
    """Typed calls with a deadline. Every one but `reserve` and `peek` may be repeated at will, and
    `reserve` too under the same id. Failures are domain errors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._limiter: rpc.LimiterServiceAsyncStub = rpc.LimiterServiceStub(channel)

    async def reserve(self, reservation: Reservation) -> Decision:
        """Take one request and the units, or nothing."""
        request = pb.ReserveRequest(**_fields(reservation))
        with _failures():
            return _decision(await self._limiter.Reserve(request, timeout=deadlines.LIMITER_S))

    async def confirm(self, reservation: Reservation) -> None:
        """Make it stand: its job is durable."""
        request = pb.ConfirmRequest(**_fields(reservation))
        with _failures():
            await self._limiter.Confirm(request, timeout=deadlines.LIMITER_S)

    async def settle(self, settlement: Settlement) -> bool:
        """Replace the estimate by the charge; False when that was done before."""
        request = pb.SettleRequest(**_fields(settlement))
        with _failures():
            return (await self._limiter.Settle(request, timeout=deadlines.LIMITER_S)).applied

    async def release(self, tenant_id: TenantId, reservation_id: JobId) -> bool:
        """Give it back: its job never came to be; False when nothing tentative was there."""
        request = pb.ReleaseRequest(tenant_id=tenant_id, reservation_id=reservation_id)
        with _failures():
            return (await self._limiter.Release(request, timeout=deadlines.LIMITER_S)).applied

    async def peek(self, tenant_id: TenantId, tier: str, units: float = 0.0) -> Decision:
        """Return what `reserve` would decide; takes nothing."""
        request = pb.PeekRequest(tenant_id=tenant_id, tier=tier, units=units)
        with _failures():
            return _decision(await self._limiter.Peek(request, timeout=deadlines.LIMITER_S))


@contextmanager
def _failures() -> Iterator[None]:
    try:
        with translated("rate limiter"):
            yield
    except Unavailable as known:
        wait_s = known.retry_after_s or _RETRY_AFTER_S
        raise Unavailable(
            known.message, reason="LIMITER_DEGRADED", metadata=known.metadata, retry_after_s=wait_s
        ) from known


def _fields(carried: Reservation | Settlement) -> dict[str, Any]:
    return {field.name: getattr(carried, field.name) for field in dataclasses.fields(carried)}


def _decision(answer: pb.ReserveResponse) -> Decision:
    refused = answer.denial
    denial = Denial(refused.dimension, refused.limit, refused.available, refused.retry_after_s)
    headers = tuple((header.name, header.value) for header in answer.headers)
    return Decision(denial if answer.HasField("denial") else None, headers, answer.available_units)
