"""A trace goes through a process that records nothing: to the call that it is asked in, and on to those it asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry import context

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from darkroom.modelserver.v1 import modelserver_service_pb2_grpc as pb_grpc
from libs.rpc.channel import open_channel
from libs.rpc.server import RpcServer
from libs.telemetry import tracing

MESH = "m" * 32
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Worker(pb_grpc.ModelServerServiceServicer):
    """Notes the trace that it is called in."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def WarmModel(self, _request: Any, _context: Any) -> pb.WarmModelResponse:
        self.seen.append(tracing.current_traceparent())
        return pb.WarmModelResponse()

    async def Execute(self, _request: Any, _context: Any) -> AsyncIterator[pb.ExecuteEvent]:
        self.seen.append(tracing.current_traceparent())
        yield pb.ExecuteEvent(done=pb.AttemptDone())


@pytest.mark.parametrize("parent", [PARENT, ""])
async def test_calls_run_in_the_trace_of_who_asks(parent: str) -> None:
    worker, server = Worker(), RpcServer("127.0.0.1:0", mesh_token=MESH)
    pb_grpc.add_ModelServerServiceServicer_to_server(worker, server.grpc)
    await server.start(())
    async with asyncio.timeout(20), open_channel(f"127.0.0.1:{server.port}", mesh_token=MESH) as channel:
        stub = pb_grpc.ModelServerServiceStub(channel)
        token = context.attach(tracing.context_of(parent))
        await stub.WarmModel(pb.WarmModelRequest(), timeout=10)
        async for _ in stub.Execute(pb.ExecuteRequest(), timeout=10):
            pass
        context.detach(token)
        await stub.WarmModel(pb.WarmModelRequest(), timeout=10)
    await server.grpc.stop(0)
    assert worker.seen == [parent, parent, ""]
