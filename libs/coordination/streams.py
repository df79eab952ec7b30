"""The two long-lived calls of etcd: keeping leases alive and watching keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
from aetcd.rpc import kv_pb2, rpc_pb2

from libs.coordination.errors import (
    CoordinationError,
    CoordinationRefused,
    CoordinationUnavailable,
    HistoryGone,
    LeaseGone,
)
from libs.coordination.replies import Change

_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


def failure_of(error: grpc.aio.AioRpcError) -> CoordinationError:
    """Return our failure for a status of etcd; what is not known to be final counts as unavailable."""
    message = f"etcd: {error.code().name}: {error.details()}"
    if error.code() is grpc.StatusCode.NOT_FOUND and "lease" in (error.details() or ""):
        return LeaseGone(message)
    if error.code() is grpc.StatusCode.OUT_OF_RANGE:
        return HistoryGone(message)
    if error.code() in _REFUSALS:
        return CoordinationRefused(message)
    return CoordinationUnavailable(message)


class Stream:
    """A bidirectional call whose failures are ours. `on_failure` lets the client move to another member."""

    def __init__(self, call: Any, on_failure: Callable[[], None]) -> None:
        self._call = call
        self._on_failure = on_failure

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()

    async def write(self, request: Any, timeout_s: float | None = None) -> None:
        """Send one message."""
        await self._guarded(self._call.write(request), timeout_s)

    async def read(self, timeout_s: float | None = None) -> Any:
        """Return the next message; an end of the stream is a failure, etcd never ends one by plan."""
        reply = await self._guarded(self._call.read(), timeout_s)
        if reply is grpc.aio.EOF:
            self._on_failure()
            raise CoordinationUnavailable("etcd ended the stream")
        return reply

    async def _guarded(self, step: Any, timeout_s: float | None) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await step
        except grpc.aio.AioRpcError as error:
            self._on_failure()
            raise failure_of(error) from error
        except TimeoutError as error:
            self._on_failure()
            raise CoordinationUnavailable(f"etcd did not answer on a stream within {timeout_s} s") from error
        except asyncio.InvalidStateError as error:  # a write to a call that is over already
            self._on_failure()
            raise CoordinationUnavailable("the stream to etcd is over") from error


class KeepAliveStream(Stream):
    """Refreshes leases over one call."""

    async def refresh(self, lease_id: int, timeout_s: float) -> int:
        """Return the seconds the lease has from when the server read this. Raises LeaseGone."""
        await self.write(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id), timeout_s)
        reply = await self.read(timeout_s)
        if reply.TTL <= 0:  # how etcd says expired or unknown: there is no error status
            raise LeaseGone(f"etcd: lease {lease_id:x} is gone")
        return int(reply.TTL)


class WatchStream(Stream):
    """Follows the changes of one key or prefix. Make it with `EtcdClient.watch`, which calls `start`."""

    store_revision = 0

    async def start(self, create: Any, timeout_s: float) -> None:
        """Ask for the watch and wait until it exists. Raises HistoryGone if its first revision is compacted."""
        await self.write(rpc_pb2.WatchRequest(create_request=create), timeout_s)
        reply = await self.read(timeout_s)
        _refuse_cancelled(reply)
        # The revision of the store, not of this watch: resuming from it would skip events not sent yet.
        self.store_revision = int(reply.header.revision)

    async def changes(self) -> list[Change]:
        """Wait for the next changes. Raises HistoryGone, or CoordinationUnavailable on any end of the watch."""
        reply = await self.read()
        _refuse_cancelled(reply)
        return [
            Change(
                key=event.kv.key.decode(),
                value=None if event.type == kv_pb2.Event.DELETE else event.kv.value,
                revision=event.kv.mod_revision,
            )
            for event in reply.events
        ]


def _refuse_cancelled(reply: Any) -> None:
    # etcd 3.5 leaves `cancel_reason` empty on compaction: only the number tells.
    if reply.compact_revision:
        raise HistoryGone(f"etcd: revisions before {reply.compact_revision} are compacted")
    if reply.canceled:
        raise CoordinationUnavailable(f"etcd cancelled the watch: {reply.cancel_reason or 'no reason given'}")
