"""Asking a process over grpc.health.v1 what it serves. Needs no token."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.rpc import deadlines

WHOLE_SERVER = ""
LEADER = "darkroom.leader"  # SERVING only on the scheduler that leads

# A proxy that the environment names is not the way to this machine.
_OPTIONS = (("grpc.enable_http_proxy", 0),)


async def serves(address: str, name: str = WHOLE_SERVER) -> bool:
    """Return whether the process at host:port says SERVING to a name; one that cannot be asked does not.

    Opens a connection of its own, so that no back-off of an earlier try delays it.
    """
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=deadlines.HEALTH_S)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
