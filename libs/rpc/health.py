"""Asking a process over grpc.health.v1 what it serves. Needs no token; where certificates are asked for, one of the mesh."""

from __future__ import annotations

from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.rpc import deadlines
from libs.rpc.channel import named
from libs.rpc.identity import Identity

WHOLE_SERVER = ""
LEADER = "darkroom.leader"  # SERVING only on the scheduler that leads

# A proxy that the environment names is not the way to this machine.
_OPTIONS = (("grpc.enable_http_proxy", 0),)


Connect = Callable[[str], grpc.aio.Channel]


def connect(address: str) -> grpc.aio.Channel:
    """Return a channel for one question, where no certificate is asked for."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def connect_as(identity: Identity, peer: str) -> Connect:
    """Return the same for a mesh of certificates, where a process of role `peer` is asked."""
    options = (*_OPTIONS, *named(peer))
    return lambda address: grpc.aio.secure_channel(address, identity.for_channel(), options=options)


async def serves(address: str, name: str = WHOLE_SERVER, connect: Connect = connect) -> bool:
    """Return whether the process at host:port says SERVING to a name; one that cannot be asked does not.

    Opens a connection of its own, so that no back-off of an earlier try delays it.
    """
    async with connect(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=deadlines.HEALTH_S)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
