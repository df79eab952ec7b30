"""A lease that is kept alive, known to be lost before the server can say so, and replaced for ever."""

from __future__ import annotations

import asyncio
import logging

from libs.backoff import Backoff
from libs.clock import Clock
from libs.coordination.client import EtcdClient
from libs.coordination.errors import CoordinationError, LeaseGone
from libs.coordination.streams import KeepAliveStream

_log = logging.getLogger(__name__)
# Of the TTL, counted from when the request was *sent*: the server counts from when it read it, so the local deadline
# passes first even if the two clocks run a fifth apart.
_TRUSTED_FRACTION = 0.8
_REFRESHES_PER_TTL = 3


class Lease:
    """One lease as this process believes in it. `lost` is set once and stays set."""

    def __init__(self, lease_id: int, clock: Clock) -> None:
        self.lease_id = lease_id
        self.lost = asyncio.Event()
        self._clock = clock
        self._deadline_s = 0.0
        self._also_told: list[asyncio.Event] = []

    def extend(self, sent_s: float, ttl_s: int) -> None:
        """Believe in it longer: a request sent at `sent_s` (monotonic) was answered with `ttl_s`."""
        self._deadline_s = sent_s + ttl_s * _TRUSTED_FRACTION

    def left_s(self) -> float:
        """Return for how many seconds no other process can see this lease expired; 0 once it is lost."""
        return 0.0 if self.lost.is_set() else max(0.0, self._deadline_s - self._clock.monotonic())

    def tell(self, event: asyncio.Event) -> None:
        """Set `event` too when the lease is lost, in the same instant."""
        self._also_told.append(event)
        if self.lost.is_set():
            event.set()

    def lose(self) -> None:
        """Stop to believe in it."""
        self.lost.set()
        for event in self._also_told:
            event.set()


class Session:
    """Holds one lease after another while `run` runs, and keeps keys under the one in force.

    `put` and `remove` say what shall be; `run` writes it, again after every loss. A key put by a session passes to
    its next lease by being written again, so watchers see no gap as long as the old lease has not expired.
    """

    def __init__(self, client: EtcdClient, *, lease_ttl_s: int, clock: Clock) -> None:
        self._client = client
        self._lease_ttl_s = lease_ttl_s
        self._clock = clock
        self._kept: dict[str, bytes] = {}
        self._unwritten: dict[str, None] = {}  # keys in the order of their writing
        self._work = asyncio.Event()
        self._lease: Lease | None = None
        self._granted = asyncio.Event()

    def put(self, key: str, value: bytes) -> None:
        """Keep a key at this value from now on; returns at once, `run` does the writing."""
        self._kept[key] = value
        self._unwritten[key] = None
        self._work.set()

    def remove(self, key: str) -> None:
        """Keep a key no longer."""
        if self._kept.pop(key, None) is not None:
            self._unwritten[key] = None
            self._work.set()

    async def lease(self) -> Lease:
        """Return the lease in force, waiting until there is one."""
        while self._lease is None or self._lease.lost.is_set():
            self._granted.clear()  # lost a moment ago, which `run` has not heard yet: without this nobody gets a turn
            await self._granted.wait()
        return self._lease

    async def run(self) -> None:
        """Hold a lease until cancelled, then revoke it, which deletes its keys at once."""
        lost_before: Lease | None = None
        try:
            while True:
                self._lease = await self._grant()
                self._granted.set()
                # In a task of its own: before Python 3.13 a task group leaves a cancellation on the task that it stops.
                await asyncio.create_task(self._hold(self._lease, lost_before))
                _leave_if_cancelled()
                _log.warning("lease lost", extra={"lease": f"{self._lease.lease_id:x}"})
                lost_before = self._lease
        finally:
            if self._lease is not None:
                self._lease.lose()
                self._granted.clear()
                await self._revoke(self._lease)

    async def _grant(self) -> Lease:
        """Get a lease, however long that takes."""
        backoff = Backoff()
        while True:
            sent_s = self._clock.monotonic()
            try:
                grant = await self._client.grant(self._lease_ttl_s)
            except CoordinationError as error:
                _log.warning("no lease yet", extra={"cause": error.message})
                await self._clock.sleep(backoff.next_s())
                continue
            lease = Lease(grant.lease_id, self._clock)
            lease.extend(sent_s, grant.ttl_s)
            return lease

    async def _hold(self, lease: Lease, lost_before: Lease | None) -> None:
        """Keep a lease and its keys until it is lost."""
        self._unwritten = dict.fromkeys((*self._kept, *self._unwritten))
        self._work.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._guard(lease))
                tasks.create_task(self._keep_alive(lease))
                tasks.create_task(self._write_kept(lease, lost_before))
        except* LeaseGone:
            pass
        finally:
            self._granted.clear()
            lease.lose()

    async def _guard(self, lease: Lease) -> None:
        """Lose the lease when its local deadline passes, whatever the other tasks are waiting for."""
        while left_s := lease.left_s():
            await self._clock.sleep(left_s)
        lease.lose()
        raise LeaseGone("the lease could not be refreshed in time")

    async def _keep_alive(self, lease: Lease) -> None:
        """Refresh the lease, opening a new stream whenever one fails."""
        backoff = Backoff()
        while True:
            try:
                async with self._client.keep_alive() as stream:
                    await self._refresh(stream, lease, backoff)
            except LeaseGone:
                raise
            except CoordinationError as error:
                _log.warning("keep-alive interrupted", extra={"cause": error.message})
                await self._clock.sleep(backoff.next_s())

    async def _refresh(self, stream: KeepAliveStream, lease: Lease, backoff: Backoff) -> None:
        interval_s = self._lease_ttl_s / _REFRESHES_PER_TTL
        while True:
            sent_s = self._clock.monotonic()
            lease.extend(sent_s, await stream.refresh(lease.lease_id, timeout_s=interval_s))
            backoff.reset()
            await self._clock.sleep(interval_s)

    async def _write_kept(self, lease: Lease, lost_before: Lease | None) -> None:
        """Write what changed since, then drop the lease before this one with whatever still hangs on it."""
        backoff = Backoff()
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                while self._unwritten:
                    await self._write_one(lease)
            except LeaseGone:
                raise
            except CoordinationError as error:
                _log.warning("key not written yet", extra={"cause": error.message})
                self._work.set()
                await self._clock.sleep(backoff.next_s())
                continue
            backoff.reset()
            if lost_before is not None:
                await self._revoke(lost_before)
                lost_before = None

    async def _write_one(self, lease: Lease) -> None:
        """Write one key; it counts as unwritten again if it changes meanwhile or the write fails."""
        key = next(iter(self._unwritten))
        del self._unwritten[key]
        try:
            if key in self._kept:
                await self._client.put(key, self._kept[key], lease.lease_id)
            else:
                await self._client.delete(key)
        except BaseException:  # cancellation included: the key must not be forgotten
            self._unwritten[key] = None
            raise

    async def _revoke(self, lease: Lease) -> None:
        """Try to end a lease now; if etcd cannot be reached it ends by itself."""
        try:
            await self._client.revoke(lease.lease_id)
        except CoordinationError as error:
            _log.info("lease left to expire", extra={"cause": error.message})


def _leave_if_cancelled() -> None:
    """Repeat a cancellation that came while the lease was being lost: the task group that ended swallowed it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
