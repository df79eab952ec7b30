"""A service that only says that it serves, makes keys, and stops when it is told: for stacks without the real ones."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from darkroom.ratelimiter.v1 import admin_service_pb2 as pb
from darkroom.ratelimiter.v1 import admin_service_pb2_grpc as rpc
from libs import secret_files
from libs.devstack.folder import DataFolder
from libs.rpc.interceptors import MESH_KEY, OPERATOR_KEY

PREFIX = "dk_standin"


class Keys(rpc.AdminServiceServicer):
    """Makes one key after the other, for callers with both tokens, and counts them in a file."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._count = folder.root / "keys"

    async def CreateKey(self, request, context):
        await self._check(context)
        assert (request.tenant_id, request.tier, request.name) == ("dev", "enterprise", "first key")
        number = int(self._count.read_text() if self._count.exists() else 0) + 1
        self._count.write_text(str(number))
        return pb.CreateKeyResponse(secret=f"{PREFIX}_{number}")

    async def ListKeys(self, request, context):
        await self._check(context)
        return pb.ListKeysResponse(keys=[pb.Key(tenant_id=request.tenant_id, prefix=PREFIX)])

    async def RevokeKey(self, request, context):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the devstack withdraws no keys")

    async def _check(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        given = dict(context.invocation_metadata() or ())
        secrets = self._folder.root / "secrets"
        for key, name in ((MESH_KEY, secret_files.MESH_TOKEN), (OPERATOR_KEY, secret_files.OPERATOR_TOKEN)):
            if given.get(key) != secret_files.read_token(secrets, name):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{key} is missing or wrong")


async def serve(*, deaf: bool = False) -> None:
    """Serve until SIGTERM; if `deaf`, for ever."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, (lambda: None) if deaf else stop.set)
    server, healthy = grpc.aio.server(), health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    rpc.add_AdminServiceServicer_to_server(Keys(DataFolder(Path(os.environ["DARKROOM_DATA"]))), server)
    server.add_insecure_port(os.environ["DARKROOM_LISTEN"])
    await server.start()
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    await stop.wait()
    await server.stop(1)


ENVOY_CONFIG = """
admin: {{address: {{socket_address: {{address: {admin_host}, port_value: {admin_port}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: {host}, port_value: {port}}}}}
    filter_chains: [{{filters: [{{name: envoy.filters.network.echo, typed_config: {{
      "@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}}}]}}]
"""


def print_envoy_config(arguments: list[str]) -> None:
    """Print a configuration that echoes; takes the arguments of the real renderer."""
    flags = dict(zip(arguments[::2], arguments[1::2], strict=True))
    host, port = flags["--listen"].split(":")
    admin_host, admin_port = flags["--admin"].split(":")
    print(ENVOY_CONFIG.format(host=host, port=port, admin_host=admin_host, admin_port=admin_port))
