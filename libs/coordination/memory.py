"""The registry in one process: no etcd, the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from libs.coordination.registry import Presence, Snapshot


class MemoryRegistry:
    """Keeps the promises of `Registry` for the tasks of one event loop."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._owners: dict[str, MemoryPresence] = {}
        self._revision = 1
        self._changed = asyncio.Event()

    def announce(self, lease_ttl_s: int) -> Presence:
        """Make a presence; nothing can be killed without its event loop, so the lease is not needed."""
        del lease_ttl_s
        return MemoryPresence(self)

    async def watch(self, prefix: str) -> AsyncGenerator[Snapshot, None]:
        """Follow a prefix for ever; changes that come together are one snapshot."""
        seen: dict[str, bytes] | None = None
        while True:
            changed = self._changed
            values = {key: value for key, value in self._values.items() if key.startswith(prefix)}
            if values != seen:
                seen = values
                yield Snapshot(dict(values), self._revision)
                continue  # it may have changed while the consumer was at work
            await changed.wait()

    def write(self, owner: MemoryPresence, key: str, value: bytes) -> None:
        """Store a key for its owner, taking it over from any other."""
        self._values[key] = value
        self._owners[key] = owner
        self._tell()

    def withdraw(self, owner: MemoryPresence, key: str) -> None:
        """Delete a key if it is still its owner's."""
        if self._owners.get(key) is owner:
            del self._owners[key], self._values[key]
            self._tell()

    def _tell(self) -> None:
        self._revision += 1
        told, self._changed = self._changed, asyncio.Event()
        told.set()


class MemoryPresence:
    """Keys in the registry's memory while `run` runs."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry
        self._kept: dict[str, bytes] = {}
        self._runs = False

    def put(self, key: str, value: bytes) -> None:
        """Keep a key at this value from now on."""
        self._kept[key] = value
        if self._runs:
            self._registry.write(self, key, value)

    def remove(self, key: str) -> None:
        """Keep a key no longer."""
        if self._kept.pop(key, None) is not None:
            self._registry.withdraw(self, key)

    async def run(self) -> None:
        """Hold the keys until cancelled, then withdraw them."""
        self._runs = True
        for key, value in self._kept.items():
            self._registry.write(self, key, value)
        try:
            await asyncio.Event().wait()
        finally:
            self._runs = False
            for key in self._kept:
                self._registry.withdraw(self, key)
