"""The registry on etcd."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from libs.clock import Clock
from libs.coordination.client import EtcdClient
from libs.coordination.lease import Session
from libs.coordination.registry import Presence, Snapshot
from libs.coordination.watch import watch_prefix


class EtcdRegistry:
    """Keeps the promises of `Registry` over a client that its owner closes."""

    def __init__(self, client: EtcdClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def announce(self, lease_ttl_s: int) -> Presence:
        """Make a session: one lease, its keys written again whenever a new lease was needed."""
        return Session(self._client, lease_ttl_s=lease_ttl_s, clock=self._clock)

    def watch(self, prefix: str) -> AsyncGenerator[Snapshot, None]:
        """Follow a prefix for ever."""
        return watch_prefix(self._client, prefix, self._clock)
