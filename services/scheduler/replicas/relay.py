"""What only the leader knows (what passes, waits, the fleet) is asked of it, whichever replica is called."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from libs.errors import DeadlinePassed, Unavailable
from libs.rpc import deadlines
from libs.rpc.channel import ended
from libs.rpc.status import translated
from services.scheduler.faults import told_to_callers
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)

PEER = "leading scheduler"
_RELAYED = (("x-darkroom-relayed", "1"),)  # a call is passed on once, whoever is taken for the leader
Context = grpc.aio.ServicerContext[Any, Any]


class LeaderLine:
    """The channel to whoever leads, as the store says. `own_holder` is this replica, which is no use to itself."""

    def __init__(self, store: JobStore, own_holder: str, connect: Callable[[str], grpc.aio.Channel]) -> None:
        self._store = store
        self._own_holder = own_holder
        self._connect = connect
        self._address = ""
        self._channel: grpc.aio.Channel | None = None

    async def channel(self, context: Context) -> grpc.aio.Channel:
        """Return the channel for a call. Raises Unavailable while nobody leads."""
        with told_to_callers():
            leader = await self._store.leader()
        relayed = any(key == _RELAYED[0][0] for key, _ in context.invocation_metadata() or ())
        if relayed or not leader.claim.address or leader.holder == self._own_holder:
            told = "No scheduler leads just now. Nothing that was accepted is lost; ask again in a moment."
            raise Unavailable(told, metadata={"part": "scheduler"}, retry_after_s=1.0)
        if self._channel is None or leader.claim.address != self._address:
            before, self._address = self._channel, leader.claim.address
            self._channel = self._connect(self._address)  # at once: whoever asks meanwhile shall not connect, too
            if before is not None:  # its streams break: who follows them asks again and is led to the new leader
                await before.close()
        return self._channel

    async def close(self) -> None:
        """Break what is relayed and give the connection back."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


class Relay:
    """A servicer of any service: each method calls the same method of the leader."""

    def __init__(
        self, stub: Callable[[grpc.aio.Channel], Any], descriptor: ServiceDescriptor, line: LeaderLine
    ) -> None:
        self._stub = stub
        self._descriptor = descriptor
        self._line = line

    def __getattr__(self, method: str) -> Callable[[Any, Context], Any]:
        streams = self._descriptor.methods_by_name[method].server_streaming
        return partial(self._stream if streams else self._call, method)

    async def within(self, method: str, request: Any, context: Context, seconds: float) -> Any:
        """Call a method of the leader that is to answer in so many seconds. Raises DarkroomError."""
        return await self._call(method, request, context, seconds)

    async def _call(self, method: str, request: Any, context: Context, most_s: float = math.inf) -> Any:
        stub = self._stub(await self._line.channel(context))
        left_s = min(most_s, context.time_remaining() or deadlines.READ_S)
        with translated(PEER):
            return await getattr(stub, method)(request, timeout=left_s, metadata=_RELAYED)

    async def _stream(self, method: str, request: Any, context: Context) -> AsyncIterator[Any]:
        stub = self._stub(await self._line.channel(context))
        left_s = context.time_remaining() or deadlines.STREAM_S
        call = getattr(stub, method)(request, timeout=left_s, metadata=_RELAYED)
        with translated(PEER), ended(call):
            async for message in call:
                yield message


class Front:
    """A servicer of any service: hands each call to the role that this replica has at that moment.

    Standing by, it relays what it is asked. What is `local` it answers itself: with 0 seconds at once, else when the
    leader, who knows more, has not answered in so many.
    """

    def __init__(
        self,
        lead: Lead,
        leading: object,
        relay: Relay,
        standing_by: object = None,
        local: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._lead = lead
        self._leading = leading
        self._relay = relay
        self._standing_by = standing_by
        self._local = local

    def __getattr__(self, method: str) -> Callable[[Any, Context], Any]:
        def call(request: Any, context: Context) -> Any:
            if self._lead.serving:
                return getattr(self._leading, method)(request, context)
            if method not in self._local:
                return getattr(self._relay, method)(request, context)
            return self._standby(method, request, context)

        return call

    async def _standby(self, method: str, request: Any, context: Context) -> Any:
        if patience_s := self._local[method]:
            try:
                return await self._relay.within(method, request, context, patience_s)
            except (Unavailable, DeadlinePassed) as error:
                logger.info("the leader does not answer", extra={"method": method, "cause": error.message})
        return await getattr(self._standing_by, method)(request, context)
