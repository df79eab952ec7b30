"""Tenants and tiers, as operators handle them; the channel carries the operator token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from darkroom.ratelimiter.v1 import tenant_service_pb2 as pb
from darkroom.ratelimiter.v1 import tenant_service_pb2_grpc as rpc
from libs.ids import KeyId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated
from libs.wire.timestamp import seconds

_PEER = "rate limiter"
_PAGE = 100
NO_KEY = KeyId("")


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """A tenant; money in millionths, Unix seconds. `limits` are what is agreed beside its tier, `key_limits` by key."""

    id: TenantId
    tier: str
    verified: bool
    created_s: float
    limits: Mapping[str, str]
    key_limits: Mapping[KeyId, Mapping[str, str]]
    balance_micros: int
    held_micros: int
    spent_micros: int
    cap_micros: int | None


@dataclass(frozen=True, slots=True)
class TenantChange:
    """What to say otherwise; None and empty leave it. Limits as text: a value, `none` or `tier`."""

    tenant_id: TenantId
    tier: str = ""
    verified: bool | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    key_id: KeyId = NO_KEY
    cap_micros: int | None = None


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit and what is left of it; `reset_s` is None where it frees with jobs that end."""

    dimension: str
    limit: float
    remaining: float
    reset_s: float | None


@dataclass(frozen=True, slots=True)
class TenantNews:
    """Something that happened to a tenant; Unix seconds."""

    id: str
    tenant_id: TenantId
    kind: str
    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class TiersInForce:
    """The tiers by name with their fields as text, where they are read, and what is wrong with the file there."""

    path: str
    tiers: Mapping[str, Mapping[str, str]]
    wrong: str


class TenantsClient:
    """Typed calls with a deadline. Failures are domain errors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._service: rpc.TenantServiceAsyncStub = rpc.TenantServiceStub(channel)

    async def list(self) -> AsyncIterator[TenantRecord]:
        """Give every tenant by id, page by page."""
        after = ""
        while True:
            with translated(_PEER):
                request = pb.ListTenantsRequest(after=after, page_size=_PAGE)
                found = (await self._service.ListTenants(request, timeout=deadlines.ADMIN_S)).tenants
            for tenant in found:
                yield _tenant(tenant)
            if len(found) < _PAGE:
                return
            after = found[-1].id

    async def get(self, tenant_id: TenantId) -> TenantRecord:
        """Return a tenant. Raises NotFound."""
        with translated(_PEER):
            request = pb.GetTenantRequest(tenant_id=tenant_id)
            return _tenant(await self._service.GetTenant(request, timeout=deadlines.ADMIN_S))

    async def set(self, change: TenantChange) -> TenantRecord:
        """Say something otherwise; a tier makes a tenant that there is not. Raises NotFound and InvalidRequest."""
        request = pb.SetTenantRequest(
            tenant_id=change.tenant_id, tier=change.tier, limits=change.limits, key_id=change.key_id
        )
        if change.verified is not None:
            request.verified = change.verified
        if change.cap_micros is not None:
            request.cap_micros = change.cap_micros
        with translated(_PEER):
            return _tenant(await self._service.SetTenant(request, timeout=deadlines.ADMIN_S))

    async def credit(self, tenant_id: TenantId, micros: int, credit_id: str, note: str = "") -> TenantRecord:
        """Add to a balance; the same credit id twice counts once."""
        request = pb.CreditTenantRequest(tenant_id=tenant_id, micros=micros, credit_id=credit_id, note=note)
        with translated(_PEER):
            return _tenant(await self._service.CreditTenant(request, timeout=deadlines.ADMIN_S))

    async def limits(self, tenant_id: TenantId, key_id: KeyId = NO_KEY) -> tuple[str, Sequence[LimitState]]:
        """Return the tier in force, and every limit with what is left of it, of a key's own the lesser."""
        with translated(_PEER):
            request = pb.GetTenantLimitsRequest(tenant_id=tenant_id, key_id=key_id)
            answer = await self._service.GetTenantLimits(request, timeout=deadlines.ADMIN_S)
        return answer.tier, [_limit(state) for state in answer.limits]

    async def events(self, tenant_id: TenantId | None = None) -> Sequence[TenantNews]:
        """Return what happened to a tenant, or to all, newest first."""
        with translated(_PEER):
            request = pb.ListTenantEventsRequest(tenant_id=tenant_id or "")
            answer = await self._service.ListTenantEvents(request, timeout=deadlines.ADMIN_S)
        return [news_from_pb(event) for event in answer.events]

    async def tiers(self) -> TiersInForce:
        """Return the tiers in force."""
        with translated(_PEER):
            answer = await self._service.GetTiers(pb.GetTiersRequest(), timeout=deadlines.ADMIN_S)
        return TiersInForce(answer.path, {tier.name: dict(tier.limits) for tier in answer.tiers}, answer.wrong)

    async def check_tiers(self, text: str) -> Sequence[str]:
        """Return what other tiers would change. Raises InvalidRequest with all that is wrong with them."""
        with translated(_PEER):
            request = pb.CheckTiersRequest(text=text)
            return list((await self._service.CheckTiers(request, timeout=deadlines.ADMIN_S)).changes)

    async def apply_tiers(self, text: str) -> tuple[str, Sequence[str]]:
        """Have other tiers; returns where they were written and what changed. Raises InvalidRequest."""
        with translated(_PEER):
            answer = await self._service.ApplyTiers(pb.ApplyTiersRequest(text=text), timeout=deadlines.ADMIN_S)
        return answer.path, list(answer.changes)


def news_from_pb(event: pb.TenantEvent) -> TenantNews:
    """Return an event that came over the wire."""
    return TenantNews(event.id, TenantId(event.tenant_id), event.kind, event.message, seconds(event.time))


def _limit(state: pb.LimitState) -> LimitState:
    reset_s = state.reset_s if state.HasField("reset_s") else None
    return LimitState(state.dimension, state.limit, state.remaining, reset_s)


def _tenant(message: pb.Tenant) -> TenantRecord:
    return TenantRecord(
        TenantId(message.id),
        message.tier,
        message.verified,
        seconds(message.create_time),
        dict(message.limits),
        {KeyId(own.key_id): dict(own.limits) for own in message.key_limits},
        message.balance_micros,
        message.held_micros,
        message.spent_micros,
        message.cap_micros if message.HasField("cap_micros") else None,
    )
