"""KEDA's ExternalScaler, on a listener of its own: KEDA cannot send the mesh's token, and reads numbers only."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc

from darkroom.keda import externalscaler_pb2 as pb
from darkroom.keda import externalscaler_pb2_grpc as pb_grpc
from libs.rpc.server import RpcServer
from services.scheduler.faults import told_to_callers
from services.scheduler.forecast.scaling import Scaling, trigger_of

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = "externalscaler.ExternalScaler"
METRIC = "needed_workers"
_STOP_S = 1.0


class ScalerServicer(pb_grpc.ExternalScalerServicer):
    """How many workers are needed: one replica for each (target 1, of type AverageValue)."""

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling

    async def IsActive(self, request: pb.ScaledObjectRef, _context: Context) -> pb.IsActiveResponse:
        """Tell whether any worker is needed."""
        with told_to_callers():
            needed = await self._scaling.needed(trigger_of(request.scaler_metadata))
        return pb.IsActiveResponse(result=needed > 0)

    async def StreamIsActive(
        self, request: pb.ScaledObjectRef, _context: Context
    ) -> AsyncIterator[pb.IsActiveResponse]:
        """Tell it at once and after each change."""
        with told_to_callers():
            async with aclosing(self._scaling.watch(trigger_of(request.scaler_metadata))) as answers:
                async for active in answers:
                    yield pb.IsActiveResponse(result=active)

    async def GetMetricSpec(self, request: pb.ScaledObjectRef, _context: Context) -> pb.GetMetricSpecResponse:
        """Name the metric and its target for one replica; refuses metadata that cannot be read."""
        trigger_of(request.scaler_metadata)
        return pb.GetMetricSpecResponse(
            metric_specs=[pb.MetricSpec(metric_name=METRIC, target_size=1, target_size_float=1.0)]
        )

    async def GetMetrics(self, request: pb.GetMetricsRequest, _context: Context) -> pb.GetMetricsResponse:
        """Tell how many workers are needed."""
        with told_to_callers():
            needed = await self._scaling.needed(trigger_of(request.scaled_object_ref.scaler_metadata))
        value = pb.MetricValue(metric_name=METRIC, metric_value=needed, metric_value_float=float(needed))
        return pb.GetMetricsResponse(metric_values=[value])


@asynccontextmanager
async def serving(listen: str, scaling: Scaling) -> AsyncIterator[int]:
    """Serve KEDA at host:port while inside, and give the port; nothing (0) when `listen` is empty."""
    if not listen:
        yield 0
        return
    server = RpcServer(listen, mesh_token=None)
    pb_grpc.add_ExternalScalerServicer_to_server(ScalerServicer(scaling), server.grpc)
    await server.start((SERVICE,))
    await server.set_ready(True)
    try:
        yield server.port
    finally:
        scaling.stop()
        await server.grpc.stop(_STOP_S)
