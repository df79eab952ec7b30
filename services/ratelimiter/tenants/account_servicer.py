"""AccountService on the wire: what tenants read of their own account."""

from __future__ import annotations

from typing import Any

import grpc

from darkroom.ratelimiter.v1 import account_service_pb2 as pb
from darkroom.ratelimiter.v1 import account_service_pb2_grpc as rpc
from services.ratelimiter.tenants import account_wire
from services.ratelimiter.tenants.own_account import OwnAccount

_Context = grpc.aio.ServicerContext[Any, Any]


class AccountServicer(rpc.AccountServiceServicer):
    """What the gateway asks for callers; it has checked the scopes of the call, and names the caller's own tenant."""

    def __init__(self, own: OwnAccount) -> None:
        self._own = own

    async def GetOwnLimits(self, request: pb.GetOwnLimitsRequest, _context: _Context) -> pb.GetOwnLimitsResponse:
        """Tell every limit, account by account."""
        return account_wire.limits_to_pb(await self._own.limits(account_wire.reader_from_pb(request)))

    async def ListOwnUsage(self, request: pb.ListOwnUsageRequest, _context: _Context) -> pb.ListOwnUsageResponse:
        """Tell a page of usage."""
        query, after, most = account_wire.query_from_pb(request)
        return account_wire.usage_to_pb(*await self._own.usage(query, after, most))

    async def ListOwnEvents(self, request: pb.ListOwnEventsRequest, _context: _Context) -> pb.ListOwnEventsResponse:
        """Tell a page of events."""
        return account_wire.events_to_pb(*await self._own.events(*account_wire.events_from_pb(request)))
