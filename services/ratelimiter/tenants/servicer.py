"""TenantService on the wire: tenants, their limits and money, and the tiers, for operators."""

from __future__ import annotations

from typing import Any

import grpc

from darkroom.ratelimiter.v1 import tenant_service_pb2 as pb
from darkroom.ratelimiter.v1 import tenant_service_pb2_grpc as rpc
from libs.ids import KeyId, TenantId
from services.ratelimiter.decider import Decider
from services.ratelimiter.tenants import wire as tenant_wire
from services.ratelimiter.tenants.events import TenantEvents
from services.ratelimiter.tenants.tenants import Tenants
from services.ratelimiter.tiers.file import TiersFile

_Context = grpc.aio.ServicerContext[Any, Any]
_PAGE = 100


class TenantServicer(rpc.TenantServiceServicer):
    """Shows and changes; the operator token is checked before any of it."""

    def __init__(self, tenants: Tenants, tiers: TiersFile, limiter: Decider, events: TenantEvents) -> None:
        self._tenants, self._tiers, self._limiter, self._events = tenants, tiers, limiter, events

    async def ListTenants(self, request: pb.ListTenantsRequest, _context: _Context) -> pb.ListTenantsResponse:
        """List tenants by id."""
        found = await self._tenants.list(request.after, min(request.page_size or _PAGE, _PAGE))
        return pb.ListTenantsResponse(tenants=[tenant_wire.tenant_to_pb(view) for view in found])

    async def GetTenant(self, request: pb.GetTenantRequest, _context: _Context) -> pb.Tenant:
        """Tell one tenant."""
        return tenant_wire.tenant_to_pb(await self._tenants.get(TenantId(request.tenant_id)))

    async def SetTenant(self, request: pb.SetTenantRequest, _context: _Context) -> pb.Tenant:
        """Change what is named, or make a tenant when a tier is."""
        return tenant_wire.tenant_to_pb(await self._tenants.set(tenant_wire.change_from_pb(request)))

    async def CreditTenant(self, request: pb.CreditTenantRequest, _context: _Context) -> pb.Tenant:
        """Add to a balance, once by credit id."""
        return tenant_wire.tenant_to_pb(await self._tenants.credit(tenant_wire.credit_from_pb(request)))

    async def GetTenantLimits(
        self, request: pb.GetTenantLimitsRequest, _context: _Context
    ) -> pb.GetTenantLimitsResponse:
        """Tell every limit with what is left of it, as the headers of an answer would."""
        tenant_id, key_id = TenantId(request.tenant_id), KeyId(request.key_id)
        tier = await self._tenants.tier_of(tenant_id)
        limits = self._tiers.tariffs.of(tenant_id, tier, key_id)
        headers = await self._limiter.told(tenant_id, tier, key_id)
        return pb.GetTenantLimitsResponse(tier=tier, limits=tenant_wire.limits_to_pb(headers, limits))

    async def ListTenantEvents(
        self, request: pb.ListTenantEventsRequest, _context: _Context
    ) -> pb.ListTenantEventsResponse:
        """List what happened, newest first."""
        found = await self._events.latest(TenantId(request.tenant_id), min(request.page_size or _PAGE, _PAGE))
        return pb.ListTenantEventsResponse(events=[tenant_wire.event_to_pb(event) for event in found])

    async def GetTiers(self, _request: pb.GetTiersRequest, _context: _Context) -> pb.GetTiersResponse:
        """Tell the tiers in force."""
        return tenant_wire.tiers_to_pb(self._tiers)

    async def CheckTiers(self, request: pb.CheckTiersRequest, _context: _Context) -> pb.CheckTiersResponse:
        """Tell what other tiers would change."""
        return pb.CheckTiersResponse(changes=self._tiers.check(request.text))

    async def ApplyTiers(self, request: pb.ApplyTiersRequest, _context: _Context) -> pb.ApplyTiersResponse:
        """Write other tiers and take them."""
        changes = await self._tiers.apply(request.text)
        return pb.ApplyTiersResponse(changes=changes, path=str(self._tiers.path))
