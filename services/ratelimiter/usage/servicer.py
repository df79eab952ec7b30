"""UsageService on the wire: what was used, for operators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from darkroom.ratelimiter.v1 import usage_service_pb2 as pb
from darkroom.ratelimiter.v1 import usage_service_pb2_grpc as rpc
from services.ratelimiter.usage import wire as usage_wire
from services.ratelimiter.usage.reports import Reports

_Context = grpc.aio.ServicerContext[Any, Any]


class UsageServicer(rpc.UsageServiceServicer):
    """Reads usage; the operator token is checked before."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def ReadUsage(self, request: pb.ReadUsageRequest, _context: _Context) -> AsyncIterator[pb.UsageLine]:
        """Tell usage added up as asked, as it is read."""
        async for line in self._reports.read(usage_wire.query_from_pb(request)):
            yield usage_wire.line_to_pb(line)
