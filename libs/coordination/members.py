"""The members of an etcd cluster: one channel each, one of them in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from aetcd.rpc import rpc_pb2_grpc

# gRPC's own reconnect backoff grows to two minutes and keepalive is off: both far beyond a lease of seconds.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
)


class Member:
    """The stubs of one member; untyped, as its package is."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.kv: Any = rpc_pb2_grpc.KVStub(channel)
        self.lease: Any = rpc_pb2_grpc.LeaseStub(channel)
        self.watch: Any = rpc_pb2_grpc.WatchStub(channel)
        self.maintenance: Any = rpc_pb2_grpc.MaintenanceStub(channel)


class Members:
    """Hands out the member in use and moves on when it fails."""

    def __init__(self, endpoints: Sequence[str], credentials: grpc.ChannelCredentials | None) -> None:
        if not endpoints:
            raise ValueError("at least one etcd endpoint is needed")
        self._members = [Member(_channel(endpoint, credentials)) for endpoint in endpoints]
        self._current = 0

    def __len__(self) -> int:
        return len(self._members)

    def current(self) -> Member:
        """Return the member in use."""
        return self._members[self._current]

    def move_on(self, failed: Member) -> None:
        """Use the next member, unless another call that failed already moved on."""
        if self.current() is failed:
            self._current = (self._current + 1) % len(self._members)

    async def close(self) -> None:
        """Close every channel."""
        for member in self._members:
            await member.channel.close()


def _channel(endpoint: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """Open a channel to `host:port`, `http://host:port` or `https://host:port` (TLS, with the machine's roots)."""
    scheme, _, target = endpoint.rpartition("://")
    if credentials is None and scheme == "https":
        credentials = grpc.ssl_channel_credentials()
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)
