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

MOST_RENEWED = 500
_RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is asked for; its id is the job's. `units` as in libs.generation.cost.

    `address` is what counts as that of a caller without a key; `pixels` and `steps` are those of the largest picture.
    """

    reservation_id: JobId
    tenant_id: TenantId
    tier: str
    units: float
    images: int
    key_id: KeyId = KeyId("")
    address: str = ""
    pixels: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Denial:
    """The limit that binds, of those that refuse the one that frees last.

    `dimension` is `requests`, `cost`, `in_flight`, `daily_images`, `daily_units`, `address`, or `tier` for what never
    fits; `about` says what of the last two. `account` is whose limit it is: `tenant`, `key` or `address`. `limit` is
    the grant of a minute or a day, or the most at once; `retry_after_s` is 0 when waiting is no help.
    """

    dimension: str
    limit: float
    available: float
    retry_after_s: float
    account: str = "tenant"
    about: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision; `headers` (names in lower case) belong on the answer to the caller, denied or not.

    `available_…` is what could be reserved at once now, `max_…` what one picture may have; None is no limit.
    `running_images` may be on devices at once, `weight` is the tenant's beside the others of its tier.
    """

    denial: Denial | None
    headers: Sequence[tuple[str, str]]
    available_units: float
    available_images: int | None = None
    max_pixels: int | None = None
    max_steps: int | None = None
    running_images: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class OpenReservation:
    """The reservation of a job that is open, and who made it."""

    reservation_id: JobId
    tenant_id: TenantId
    tier: str
    key_id: KeyId = KeyId("")
    address: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a job came to cost; `outcome` is `succeeded`, `failed`, `cancelled` or `expired`.

    `cause` is the reason in full (empty: what the outcome says), `images` are the pictures delivered,
    `reserved_images` those asked for; `reserved_s` is when it was reserved, Unix seconds, 0 for now.
    """

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
    cause: str = ""
    address: str = ""
    reserved_images: int = 0
    reserved_s: float = 0.0


class LimiterClient:
    """Typed calls with a deadline of a second. Every one may be repeated at will, `reserve` under the same id.
    Failures are domain errors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._limiter: rpc.LimiterServiceAsyncStub = rpc.LimiterServiceStub(channel)

    async def reserve(self, reservation: Reservation, prompt_simhash: int | None = None) -> Decision:
        """Take one request and the units, or nothing. The hash says of strangers' prompts how alike they are."""
        request = pb.ReserveRequest(**_fields(reservation), prompt_simhash=prompt_simhash)
        with _failures():
            return _decision(await self._limiter.Reserve(request, timeout=deadlines.LIMITER_S))

    async def confirm(self, reservation: Reservation, reserved_s: float = 0.0) -> None:
        """Make it stand: its job is durable. `reserved_s` is when it was reserved, for a limiter that forgot it."""
        request = pb.ConfirmRequest(**_fields(reservation), reserved_s=reserved_s)
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

    async def renew(self, reservations: Sequence[OpenReservation]) -> Sequence[JobId]:
        """Keep the places of open jobs, at most MOST_RENEWED; returns those that do not stand there."""
        request = pb.RenewRequest(reservations=[pb.OpenReservation(**_fields(each)) for each in reservations])
        with _failures():
            answer = await self._limiter.Renew(request, timeout=deadlines.LIMITER_S)
        return [JobId(reservation_id) for reservation_id in answer.unknown]

    async def peek(self, wanted: Reservation) -> Decision:
        """Return what `reserve` would decide, whatever the id; takes nothing."""
        fields = _fields(wanted)
        del fields["reservation_id"]
        with _failures():
            return _decision(await self._limiter.Peek(pb.PeekRequest(**fields), timeout=deadlines.LIMITER_S))


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


def _fields(carried: Reservation | Settlement | OpenReservation) -> dict[str, Any]:
    return {field.name: getattr(carried, field.name) for field in dataclasses.fields(carried)}


def _decision(answer: pb.ReserveResponse) -> Decision:
    refused = answer.denial
    denial = Denial(
        refused.dimension,
        refused.limit,
        refused.available,
        refused.retry_after_s,
        account=refused.account,
        about=refused.about,
    )
    return Decision(
        denial if answer.HasField("denial") else None,
        tuple((header.name, header.value) for header in answer.headers),
        answer.available_units,
        available_images=answer.available_images if answer.HasField("available_images") else None,
        max_pixels=answer.max_pixels if answer.HasField("max_pixels") else None,
        max_steps=answer.max_steps if answer.HasField("max_steps") else None,
        running_images=answer.running_images if answer.HasField("running_images") else None,
        weight=answer.weight,
    )
