"""How every process serves: start, say ready, drain, stop.

    signal → health NOT_SERVING → the service's own drain → stop(grace) → traces flushed

Reflection and health need no token; everything else carries the mesh token, except on a listener that is made without
one, for callers outside the mesh. With an identity the listener speaks TLS and asks every caller for a certificate of the
mesh instead, also for health and reflection.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from libs.rpc import traces
from libs.rpc.identity import Identity
from libs.rpc.interceptors import AnswerInterceptor, CertificateInterceptor, StreamInterceptor, TokenInterceptor

logger = logging.getLogger(__name__)

_ANY_INTERFACE = ("0.0.0.0", "[::]", "::")
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
OPTIONS = (
    ("grpc.so_reuseport", 0),  # two processes on one port must fail loudly, not share it
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class RpcServer:
    """One gRPC listener. Add servicers to `grpc`, then `start`, then `set_ready`. `mesh_token` None: it asks for none.

    With an `identity` it asks for certificates, and the mesh token means nothing.
    """

    def __init__(
        self, listen: str, *, mesh_token: str | None, operator_token: str = "", identity: Identity | None = None
    ) -> None:
        self._listen, self._identity = listen, identity
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (
            StreamInterceptor(),
            traces.server_interceptor(),
            *_gate(mesh_token, operator_token, identity),
            AnswerInterceptor(),
        )
        self.grpc = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
        self._health = health.aio.HealthServicer()
        self._services: tuple[str, ...] = ()
        self._roles: set[str] = set()
        self.port = 0

    async def start(self, services: Sequence[str]) -> None:
        """Bind and listen; `services` are full names, for reflection and per-service health."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self._services = (*services, "")
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self.grpc)
        await self.set_ready(False)
        self.port = self._bind()
        await self.grpc.start()
        logger.info("listening", extra={"address": f"{self._listen.rpartition(':')[0]}:{self.port}"})

    def _bind(self) -> int:
        if self._identity is None:
            return self.grpc.add_insecure_port(self._listen)
        return self.grpc.add_secure_port(self._listen, self._identity.for_server())

    async def set_ready(self, ready: bool) -> None:
        """Tell health checks whether calls are welcome."""
        serving = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services:
            await self._health.set(service, serving)

    async def take_role(self, role: str) -> None:
        """Say SERVING to a name that is no service, until the drain: a role that only one process has at a time."""
        self._roles.add(role)
        await self._health.set(role, health_pb2.HealthCheckResponse.SERVING)

    async def tell(self, part: str, *, well: bool) -> None:
        """Tell health checks how one part is, by a name of its own; the process stays as welcome as it was."""
        serving = health_pb2.HealthCheckResponse.SERVING if well else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set(part, serving)

    async def drain(self, grace_s: float, drain: Callable[[], Awaitable[None]] | None = None) -> None:
        """Stop taking calls, let the service hand back or finish its work, then stop within `grace_s`."""
        await self.set_ready(False)
        for role in self._roles:
            await self._health.set(role, health_pb2.HealthCheckResponse.NOT_SERVING)
        if drain is not None:
            try:
                async with asyncio.timeout(grace_s):
                    await drain()
            except TimeoutError:
                logger.warning("drain did not finish in time", extra={"grace_s": grace_s})
        await self.grpc.stop(grace_s)


def _gate(
    mesh_token: str | None, operator_token: str, identity: Identity | None
) -> Sequence[grpc.aio.ServerInterceptor]:
    if identity is not None:
        return (CertificateInterceptor(operator_token),)
    return () if mesh_token is None else (TokenInterceptor(mesh_token, operator_token),)


def reachable_address(listen: str, port: int) -> str:
    """Return host:port under which others reach the listener; a listener on every interface goes by this host's IP."""
    host = listen.rpartition(":")[0]
    if host in _ANY_INTERFACE:
        host = socket.gethostbyname(socket.gethostname())
    return f"{host}:{port}"


async def wait_for_stop() -> str:
    """Wait for SIGTERM or SIGINT and return its name."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    caught: list[str] = []

    def stop(name: str) -> None:
        caught.append(name)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    await stopped.wait()
    return caught[0]
