"""Following a prefix as full states: list at R, watch from R + 1, go on after the last event, or list anew."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from libs.backoff import Backoff
from libs.clock import Clock
from libs.coordination.errors import CoordinationError, HistoryGone
from libs.coordination.registry import Snapshot
from libs.coordination.replies import Change, Listing
from libs.coordination.streams import WatchStream

_log = logging.getLogger(__name__)
_NOTHING_YET = Snapshot({}, revision=0)


class WatchClient(Protocol):
    """What a watch needs of `EtcdClient`."""

    async def list_prefix(self, prefix: str) -> Listing:
        """Read every key under a prefix."""
        ...

    async def watch(self, key: str, *, start_revision: int, prefix: bool = False) -> WatchStream:
        """Start to follow changes."""
        ...


async def watch_prefix(client: WatchClient, prefix: str, clock: Clock) -> AsyncGenerator[Snapshot, None]:
    """Yield the state of a prefix, for ever, whatever happens to etcd.

    While etcd is gone the last state is repeated once with `stale_since`. When it is back the state is yielded as
    fresh as soon as the watch stands again; what was missed follows as its events arrive.
    """
    snapshot = _NOTHING_YET
    backoff = Backoff()
    while True:
        try:
            async with aclosing(_follow(client, prefix, snapshot)) as states:
                async for snapshot in states:
                    backoff.reset()
                    yield snapshot
        except HistoryGone as error:
            _log.info("watch lists anew", extra={"prefix": prefix, "cause": error.message})
            snapshot = replace(snapshot, revision=0)
        except CoordinationError as error:
            _log.warning("watch interrupted", extra={"prefix": prefix, "cause": error.message})
            if snapshot.stale_since is None:
                snapshot = replace(snapshot, stale_since=clock.now())
                yield snapshot
        await clock.sleep(backoff.next_s())


async def _follow(client: WatchClient, prefix: str, last: Snapshot) -> AsyncGenerator[Snapshot, None]:
    """Yield states from one connection; revision 0 in `last` means that nothing is known to go on from."""
    snapshot = replace(last, stale_since=None)
    if not last.revision:
        listing = await client.list_prefix(prefix)
        snapshot = Snapshot({key: pair.value for key, pair in listing.values.items()}, listing.revision)
    async with await client.watch(prefix, start_revision=snapshot.revision + 1, prefix=True) as stream:
        if stream.store_revision < snapshot.revision:
            # Another store (its data was lost), or a member that lags: waiting there for our next event can be for ever.
            raise HistoryGone(f"the store is at revision {stream.store_revision}, we saw {snapshot.revision}")
        if snapshot != last:
            yield snapshot
        while True:
            changes = await stream.changes()
            if changes:
                snapshot = Snapshot(_after(snapshot.values, changes), changes[-1].revision)
                yield snapshot


def _after(values: Mapping[str, bytes], changes: Sequence[Change]) -> dict[str, bytes]:
    after = dict(values)
    for change in changes:
        if change.value is None:
            after.pop(change.key, None)
        else:
            after[change.key] = change.value
    return after
