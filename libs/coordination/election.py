"""At most one leader a key, as far as etcd can promise it.

A lease is no mutual exclusion for anything outside etcd: whoever leads must fence its writes where they land.
`revision` grows with every new leader and serves as a hint for that fence.
"""

from __future__ import annotations

import asyncio
import logging

from libs.backoff import Backoff
from libs.clock import Clock
from libs.coordination.client import EtcdClient
from libs.coordination.errors import CoordinationError
from libs.coordination.lease import Lease, Session
from libs.coordination.replies import KeyValue

_log = logging.getLogger(__name__)


class Election:
    """One candidate for one key, under the lease of a session that somebody runs.

    States: outside -> `campaign` -> leading (`revision` > 0, `lost` clear) -> `lost` set. It may campaign again.
    """

    def __init__(self, client: EtcdClient, session: Session, *, key: str, candidate: str, clock: Clock) -> None:
        self._client = client
        self._session = session
        self._key = key
        self._candidate = candidate
        self._clock = clock
        self.revision = 0
        self.lost = asyncio.Event()

    async def campaign(self) -> int:
        """Wait until this candidate leads; return the revision of its victory."""
        backoff = Backoff()
        while True:
            lease = await self._session.lease()
            try:
                holder = await self._client.create(self._key, self._candidate.encode(), lease.lease_id)
                if holder.lease_id == lease.lease_id:  # also when the answer to an earlier attempt was lost
                    return self._win(lease, holder)
                await self._until_gone(holder.create_revision)
                backoff.reset()
            except CoordinationError as error:
                _log.warning("campaign interrupted", extra={"election": self._key, "cause": error.message})
                await self._clock.sleep(backoff.next_s())

    async def until_lost(self) -> None:
        """Wait until the lease is lost, or somebody deleted the key; sets `lost`."""
        backoff = Backoff()
        while not self.lost.is_set():
            gone = asyncio.create_task(self._until_gone(self.revision))
            lost = asyncio.create_task(self.lost.wait())
            try:
                await asyncio.wait((gone, lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                lost.cancel()
                outcome, _ = await asyncio.gather(gone, lost, return_exceptions=True)
            if outcome is None:
                self.lost.set()
            elif isinstance(outcome, CoordinationError):  # the lease decides, not the watch
                await self._clock.sleep(backoff.next_s())

    async def resign(self) -> None:
        """Stop leading and let another win now. Raises a CoordinationError; the lease then ends it later."""
        self.lost.set()
        if self.revision:
            await self._client.delete_created_at(self._key, self.revision)

    def _win(self, lease: Lease, holder: KeyValue) -> int:
        self.revision = holder.create_revision
        self.lost = asyncio.Event()
        lease.tell(self.lost)
        _log.info("elected", extra={"election": self._key, "revision": self.revision})
        return self.revision

    async def _until_gone(self, create_revision: int) -> None:
        """Wait until the key created at that revision is deleted."""
        now = await self._client.list_prefix(self._key)  # read first: the history since then may be compacted
        held = now.values.get(self._key)
        if held is None or held.create_revision != create_revision:
            return
        async with await self._client.watch(self._key, start_revision=now.revision + 1) as stream:
            while True:
                if any(change.value is None for change in await stream.changes()):
                    return
