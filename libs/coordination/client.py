"""A small etcd client on generated stubs: every call bounded, no write sent twice.

The stubs are those of `aetcd`; its own client has no TLS, one endpoint and ignores cancelled watches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from aetcd.rpc import rpc_pb2

from libs.coordination.errors import CoordinationUnavailable
from libs.coordination.members import Member, Members
from libs.coordination.replies import Grant, KeyValue, Listing
from libs.coordination.streams import KeepAliveStream, WatchStream, failure_of

# A member cut off from its cluster ends such streams instead of serving an old view in silence.
_REQUIRE_LEADER = (("hasleader", "true"),)


class EtcdClient:
    """Keys are text, values bytes. Every method raises a `CoordinationError`.

    After CoordinationUnavailable it is unknown whether a write happened: the caller reads before it writes again.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        credentials: grpc.ChannelCredentials | None = None,
        *,
        timeout_s: float = 2.0,
    ) -> None:
        self._members = Members(endpoints, credentials)
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channels; streams in use fail."""
        await self._members.close()

    async def version(self) -> str:
        """Return the version of a member that answers; waits for one to come up within the deadline."""
        reply = await self._read(lambda member: member.maintenance.Status, rpc_pb2.StatusRequest(), wait=True)
        return str(reply.version)

    async def get(self, key: str) -> KeyValue | None:
        """Read one key."""
        reply = await self._read(lambda member: member.kv.Range, rpc_pb2.RangeRequest(key=key.encode()))
        return _key_value(reply.kvs[0]) if reply.kvs else None

    async def list_prefix(self, prefix: str) -> Listing:
        """Read every key under a prefix, and the revision they were read at."""
        request = rpc_pb2.RangeRequest(key=prefix.encode(), range_end=_end_of(prefix))
        reply = await self._read(lambda member: member.kv.Range, request)
        found = (_key_value(pair) for pair in reply.kvs)
        return Listing({pair.key: pair for pair in found}, int(reply.header.revision))

    async def put(self, key: str, value: bytes, lease_id: int = 0) -> int:
        """Write a key, taking it over from any other lease; return the revision. Raises LeaseGone."""
        request = rpc_pb2.PutRequest(key=key.encode(), value=value, lease=lease_id)
        reply = await self._write(lambda member: member.kv.Put, request)
        return int(reply.header.revision)

    async def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there."""
        request = rpc_pb2.DeleteRangeRequest(key=key.encode())
        reply = await self._write(lambda member: member.kv.DeleteRange, request)
        return bool(reply.deleted)

    async def create(self, key: str, value: bytes, lease_id: int = 0) -> KeyValue:
        """Write a key unless it exists, in one transaction; return the key as it then is, ours or not."""
        name = key.encode()
        request = rpc_pb2.TxnRequest(
            compare=[_created_at(name, 0)],
            success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=name, value=value, lease=lease_id))],
            failure=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=name))],
        )
        reply = await self._write(lambda member: member.kv.Txn, request)
        if not reply.succeeded:
            return _key_value(reply.responses[0].response_range.kvs[0])
        revision = int(reply.header.revision)
        return KeyValue(key, value, create_revision=revision, mod_revision=revision, lease_id=lease_id)

    async def delete_created_at(self, key: str, revision: int) -> bool:
        """Delete a key if it is still the one created at that revision, in one transaction."""
        name = key.encode()
        request = rpc_pb2.TxnRequest(
            compare=[_created_at(name, revision)],
            success=[rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=name))],
        )
        reply = await self._write(lambda member: member.kv.Txn, request)
        return bool(reply.succeeded)

    async def compact(self, revision: int) -> None:
        """Forget the history before a revision."""
        await self._write(lambda member: member.kv.Compact, rpc_pb2.CompactionRequest(revision=revision))

    async def grant(self, ttl_s: int) -> Grant:
        """Grant a lease."""
        reply = await self._write(lambda member: member.lease.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=ttl_s))
        return Grant(int(reply.ID), int(reply.TTL))

    async def revoke(self, lease_id: int) -> None:
        """End a lease and delete its keys. Raises LeaseGone."""
        await self._write(lambda member: member.lease.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=lease_id))

    def keep_alive(self) -> KeepAliveStream:
        """Open a stream that refreshes leases; use it as a context."""
        member = self._members.current()
        call = member.lease.LeaseKeepAlive(metadata=_REQUIRE_LEADER)
        return KeepAliveStream(call, lambda: self._members.move_on(member))

    async def watch(self, key: str, *, start_revision: int, prefix: bool = False) -> WatchStream:
        """Start to follow a key, or all keys under it; use the answer as a context. Raises HistoryGone."""
        member = self._members.current()
        call = member.watch.Watch(metadata=_REQUIRE_LEADER)
        stream = WatchStream(call, lambda: self._members.move_on(member))
        create = rpc_pb2.WatchCreateRequest(
            key=key.encode(), range_end=_end_of(key) if prefix else b"", start_revision=start_revision
        )
        try:
            await stream.start(create, self._timeout_s)
        except BaseException:  # cancellation included: the call must not outlive this attempt
            call.cancel()
            raise
        return stream

    async def _read(self, method: Callable[[Member], Any], request: Any, *, wait: bool = False) -> Any:
        """Call each member in turn until one answers: reading twice does no harm."""
        for _ in range(len(self._members) - 1):
            try:
                return await self._write(method, request, wait=wait)
            except CoordinationUnavailable:
                continue
        return await self._write(method, request, wait=wait)

    async def _write(self, method: Callable[[Member], Any], request: Any, *, wait: bool = False) -> Any:
        """Call the member in use once. A transaction sent twice can report its own success as a defeat."""
        member = self._members.current()
        try:
            return await method(member)(request, timeout=self._timeout_s, wait_for_ready=wait)
        except grpc.aio.AioRpcError as error:
            failure = failure_of(error)
            if isinstance(failure, CoordinationUnavailable):
                self._members.move_on(member)
            raise failure from error


def _key_value(pair: Any) -> KeyValue:
    return KeyValue(
        key=pair.key.decode(),
        value=pair.value,
        create_revision=pair.create_revision,
        mod_revision=pair.mod_revision,
        lease_id=pair.lease,
    )


def _created_at(name: bytes, revision: int) -> Any:
    """Compare: the key was created at that revision; 0 means that it does not exist."""
    return rpc_pb2.Compare(
        result=rpc_pb2.Compare.EQUAL, target=rpc_pb2.Compare.CREATE, key=name, create_revision=revision
    )


def _end_of(prefix: str) -> bytes:
    """Return the first key after every key under an ASCII prefix."""
    name = prefix.encode()
    return name[:-1] + bytes([name[-1] + 1])
