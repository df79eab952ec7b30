"""ModelServerService: convert, call, convert."""

from __future__ import annotations

import dataclasses
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
from services.modelserver.device_time import DeviceTime
from services.modelserver.shelf import Shelf
from services.modelserver.stockroom import Stockroom

SERVICE = pb.DESCRIPTOR.services_by_name["ModelServerService"].full_name
Context = grpc.aio.ServicerContext[Any, Any]


class ModelServerServicer(rpc.ModelServerServiceServicer):
    """One device behind gRPC."""

    def __init__(self, attempts: Attempts, shelf: Shelf, stockroom: Stockroom, device_time: DeviceTime) -> None:
        self._attempts = attempts
        self._device_time = device_time
        self._shelf = shelf
        self._stockroom = stockroom

    async def Execute(self, request: pb.ExecuteRequest, _context: Context) -> AsyncIterator[pb.ExecuteEvent]:
        """Run or attach; the attempt goes on when the stream breaks."""
        order = wire.order_from_pb(request)
        attempt = self._attempts.take(order, trace_context.get_current())
        async with aclosing(attempt.follow()) as events:
            async for event in events:
                yield wire.event_to_pb(event, order.attempt)

    async def CancelAttempt(self, request: pb.CancelAttemptRequest, _context: Context) -> pb.CancelAttemptResponse:
        """Stop an attempt."""
        return pb.CancelAttemptResponse(found=self._attempts.cancel(wire.key_from_pb(request), request.epoch))

    async def DescribeModels(self, _request: pb.DescribeModelsRequest, _context: Context) -> pb.DescribeModelsResponse:
        """List every model folder."""
        models = self._shelf.models({place.pinned: place.tier.value for place in self._stockroom.places()})
        return pb.DescribeModelsResponse(models=[model_to_pb(model) for model in models])

    async def WarmModel(self, request: pb.WarmModelRequest, _context: Context) -> pb.WarmModelResponse:
        """Begin to bring a model into memory."""
        self._stockroom.warm(request.model_version, wire.tier_from_pb(request.tier))
        return pb.WarmModelResponse()

    async def EvictModel(self, request: pb.EvictModelRequest, _context: Context) -> pb.EvictModelResponse:
        """Let a model's weights go."""
        return pb.EvictModelResponse(evicted=await self._stockroom.evict(request.model_version))

    async def GetResidency(self, _request: pb.GetResidencyRequest, _context: Context) -> pb.GetResidencyResponse:
        """Tell where the weights are."""
        models = [wire.place_to_pb(place) for place in self._stockroom.places()]
        return pb.GetResidencyResponse(models=models, memory_bytes=self._stockroom.memory_bytes)

    async def ParkAttempt(self, request: pb.ParkAttemptRequest, _context: Context) -> pb.ParkAttemptResponse:
        """Take an attempt off the device."""
        return pb.ParkAttemptResponse(parked=await self._attempts.park(wire.key_from_pb(request), request.epoch))

    async def ResumeAttempt(self, request: pb.ResumeAttemptRequest, _context: Context) -> pb.ResumeAttemptResponse:
        """Let a parked attempt go on."""
        return pb.ResumeAttemptResponse(resumed=await self._attempts.resume(wire.key_from_pb(request), request.epoch))

    async def GetDeviceTime(self, _request: pb.GetDeviceTimeRequest, _context: Context) -> pb.GetDeviceTimeResponse:
        """Tell what the device's time went into."""
        spent = self._device_time.look()
        return pb.GetDeviceTimeResponse(**dataclasses.asdict(spent))
