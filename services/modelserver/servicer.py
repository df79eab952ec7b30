"""ModelServerService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from opentelemetry import context as trace_context

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from darkroom.modelserver.v1 import modelserver_service_pb2_grpc as rpc
from libs.wire.model import model_to_pb
from services.modelserver import wire
from services.modelserver.attempts import Attempts
from services.modelserver.engine.protocol import Engine
from services.modelserver.shelf import Shelf

SERVICE = pb.DESCRIPTOR.services_by_name["ModelServerService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


class ModelServerServicer(rpc.ModelServerServiceServicer):
    """One device behind gRPC."""

    def __init__(self, attempts: Attempts, shelf: Shelf, engine: Engine) -> None:
        self._attempts = attempts
        self._shelf = shelf
        self._engine = engine

    async def Execute(self, request: pb.ExecuteRequest, _context: Context) -> AsyncIterator[pb.ExecuteEvent]:
        """Run or attach; the attempt goes on when the stream breaks."""
        order = wire.order_from_pb(request)
        attempt = self._attempts.take(order, trace_context.get_current())
        async with aclosing(attempt.follow()) as events:
            async for event in events:
                yield wire.event_to_pb(event, order.attempt)

    async def CancelAttempt(self, request: pb.CancelAttemptRequest, _context: Context) -> pb.CancelAttemptResponse:
        """Stop an attempt."""
        return pb.CancelAttemptResponse(found=self._attempts.cancel(wire.key_from_pb(request)))

    async def DescribeModels(self, _request: pb.DescribeModelsRequest, _context: Context) -> pb.DescribeModelsResponse:
        """List every model folder."""
        residency = "ram" if self._engine.device.id == "cpu" else "vram"
        models = self._shelf.models(self._engine.resident, residency)
        return pb.DescribeModelsResponse(models=[model_to_pb(model) for model in models])
