"""LimiterService on the wire: convert, call, convert."""

from __future__ import annotations

import math
from typing import Any

import grpc

from darkroom.ratelimiter.v1 import limiter_service_pb2 as pb
from darkroom.ratelimiter.v1 import limiter_service_pb2_grpc as rpc
from services.ratelimiter import wire
from services.ratelimiter.abuse.watch import Watch
from services.ratelimiter.decider import Decider
from services.ratelimiter.tenants.till import Till

_Context = grpc.aio.ServicerContext[Any, Any]


class LimiterServicer(rpc.LimiterServiceServicer):
    """What the gateway and the scheduler call."""

    def __init__(self, limiter: Decider, till: Till, watch: Watch) -> None:
        self._limiter, self._till, self._watch = limiter, till, watch

    async def Reserve(self, request: pb.ReserveRequest, _context: _Context) -> pb.ReserveResponse:
        """Take requests and units in one decision; a denial is an answer, not an error."""
        hold = wire.hold_from_pb(request)
        decision = await self._till.reserve(hold)
        if hold.address and hold.images and decision.denial is None:
            prompt = request.prompt_simhash if request.HasField("prompt_simhash") else None
            largest = hold.pixels >= (decision.limits.max_pixels or math.inf)
            self._watch.created(hold.tenant_id, hold.address, prompt, largest=largest)
        return wire.decision_to_pb(decision)

    async def Confirm(self, request: pb.ConfirmRequest, _context: _Context) -> pb.ConfirmResponse:
        """Make a tentative reservation stand."""
        await self._till.confirm(wire.hold_from_pb(request), request.reserved_s or None)
        return pb.ConfirmResponse()

    async def Settle(self, request: pb.SettleRequest, _context: _Context) -> pb.SettleResponse:
        """Replace the estimate by the charge, once."""
        settlement = wire.settlement_from_pb(request)
        return pb.SettleResponse(applied=await self._limiter.settle(settlement, request.reserved_s or None))

    async def Release(self, request: pb.ReleaseRequest, _context: _Context) -> pb.ReleaseResponse:
        """Give a reservation back whose job never came to be."""
        return pb.ReleaseResponse(applied=await self._till.release(*wire.release_from_pb(request)))

    async def Peek(self, request: pb.PeekRequest, _context: _Context) -> pb.ReserveResponse:
        """Say what Reserve would decide."""
        return wire.decision_to_pb(await self._limiter.peek(wire.peek_from_pb(request)))

    async def Renew(self, request: pb.RenewRequest, _context: _Context) -> pb.RenewResponse:
        """Lease the places of open jobs for longer."""
        return pb.RenewResponse(unknown=await self._limiter.renew(wire.holds_from_pb(request)))
