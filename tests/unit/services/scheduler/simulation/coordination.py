"""A simulated etcd with leases, revisions and watches, and the lines to it, which may be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from libs.coordination.errors import CoordinationUnavailable, LeaseGone
from libs.coordination.replies import Change, Grant, KeyValue, Listing
from libs.testing.simulated_loop import SimulatedClock
from tests.unit.services.scheduler.simulation.chances import Chances

T = TypeVar("T")
_TICK_S = 0.5  # how often etcd looks for leases that are over
_DEADLINE_S = 2.0  # of a call


class SimulatedEtcd:
    """One etcd. While it is `away` nobody is answered and no lease ends; when it is back all leases are extended."""

    def __init__(self) -> None:
        self.away = False
        self.revision = 1
        self.keys: dict[str, KeyValue] = {}
        self.changes: list[Change] = []
        self.changed = asyncio.Event()
        self._leases: dict[int, tuple[float, int]] = {}  # when it ends, seconds
        self._last = 0
        self._clock = SimulatedClock()

    async def run(self) -> None:
        """End leases until cancelled."""
        while True:
            await self._clock.sleep(_TICK_S)
            now = self._clock.monotonic()
            for lease_id, (ends, ttl_s) in list(self._leases.items()):
                if self.away:
                    self._leases[lease_id] = now + ttl_s, ttl_s
                elif ends < now:
                    self.end(lease_id)

    def grant(self, ttl_s: int) -> Grant:
        """Give a lease."""
        self._last += 1
        self._leases[self._last] = self._clock.monotonic() + ttl_s, ttl_s
        return Grant(self._last, ttl_s)

    def refresh(self, lease_id: int) -> int:
        """Extend a lease. Raises LeaseGone."""
        self.check(lease_id)
        _, ttl_s = self._leases[lease_id]
        self._leases[lease_id] = self._clock.monotonic() + ttl_s, ttl_s
        return ttl_s

    def end(self, lease_id: int) -> None:
        """End a lease and delete its keys."""
        self._leases.pop(lease_id, None)
        for key in [key for key, held in self.keys.items() if held.lease_id == lease_id]:
            self.write(key, None, 0)

    def check(self, lease_id: int) -> None:
        """Raise LeaseGone for a lease that is over."""
        if lease_id and lease_id not in self._leases:
            raise LeaseGone("it is over")

    def write(self, key: str, value: bytes | None, lease_id: int) -> KeyValue | None:
        """Write or delete a key. Raises LeaseGone."""
        self.check(lease_id)
        self.revision += 1
        if value is None:
            self.keys.pop(key, None)
        else:
            created = self.keys[key].create_revision if key in self.keys else self.revision
            self.keys[key] = KeyValue(key, value, created, self.revision, lease_id)
        self.changes.append(Change(key, value, self.revision))
        self.changed.set()
        self.changed = asyncio.Event()
        return self.keys.get(key)


class Line:
    """What one process has instead of an EtcdClient; `cut` while it reaches nobody."""

    def __init__(self, etcd: SimulatedEtcd, chances: Chances) -> None:
        self.cut = False
        self._etcd = etcd
        self._chances = chances
        self._clock = SimulatedClock()

    async def grant(self, ttl_s: int) -> Grant:
        """Give a lease."""
        return await self._call(lambda: self._etcd.grant(ttl_s))

    async def revoke(self, lease_id: int) -> None:
        """End a lease."""
        await self._call(lambda: self._etcd.end(lease_id))

    async def get(self, key: str) -> KeyValue | None:
        """Read a key."""
        return await self._call(lambda: self._etcd.keys.get(key))

    async def put(self, key: str, value: bytes, lease_id: int = 0) -> int:
        """Write a key."""
        await self._call(lambda: self._etcd.write(key, value, lease_id))
        return self._etcd.revision

    async def create(self, key: str, value: bytes, lease_id: int = 0) -> KeyValue:
        """Write a key unless it is there."""
        found = await self._call(lambda: self._etcd.keys.get(key) or self._etcd.write(key, value, lease_id))
        assert found is not None
        return found

    async def list_prefix(self, prefix: str) -> Listing:
        """Read keys."""
        keys = self._etcd.keys
        return await self._call(
            lambda: Listing({key: held for key, held in keys.items() if key.startswith(prefix)}, self._etcd.revision)
        )

    @asynccontextmanager
    async def keep_alive(self) -> AsyncIterator[Line]:
        """Refresh leases in the block."""
        yield self

    async def refresh(self, lease_id: int, *, timeout_s: float) -> int:
        """Extend a lease."""
        return await self._call(lambda: self._etcd.refresh(lease_id), timeout_s)

    async def watch(self, key: str, *, start_revision: int) -> Any:
        """Follow a key."""
        await self._call(lambda: None)
        return self._watching(key, start_revision)

    @asynccontextmanager
    async def _watching(self, key: str, start_revision: int) -> AsyncIterator[_Watch]:
        yield _Watch(self._etcd, self, key, start_revision)

    def reaches(self) -> bool:
        """Whether etcd answers."""
        return not (self.cut or self._etcd.away)

    async def _call(self, action: Callable[[], T], timeout_s: float = _DEADLINE_S) -> T:
        """Do it; the question or the answer may be lost."""
        await self._clock.sleep(self._chances.between(0.0, 0.05))
        lost = self._chances.happens(self._chances.order_goes_wrong / 3)
        if not self.reaches() or (lost and self._chances.happens(0.5)):
            await self._clock.sleep(timeout_s)
            raise CoordinationUnavailable("no answer")
        answer = action()
        await self._clock.sleep(self._chances.between(0.0, 0.05))
        if lost or not self.reaches():
            raise CoordinationUnavailable("the answer was lost")
        return answer


class _Watch:
    """Changes of one key since a revision."""

    def __init__(self, etcd: SimulatedEtcd, line: Line, key: str, start_revision: int) -> None:
        self._etcd = etcd
        self._line = line
        self._key = key
        self._next = start_revision

    async def changes(self) -> list[Change]:
        """Return what has changed, waiting for it."""
        while True:
            changed = self._etcd.changed
            news = [one for one in self._etcd.changes if one.revision >= self._next and one.key == self._key]
            if not self._line.reaches():
                raise CoordinationUnavailable("the watch broke")
            if news:
                self._next = news[-1].revision + 1
                return news
            try:
                async with asyncio.timeout(5.0):
                    await changed.wait()
            except TimeoutError:
                continue
