"""A channel whose credentials change: calls begin on a connection with the certificate in force, streams end on theirs.

gRPC's own channel keeps for ever what it was made with; once that has expired it would connect no more.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

Make = Callable[[], grpc.aio.Channel]


class RenewingChannel(grpc.aio.Channel):
    """Makes a channel anew when `version` returns another value; the one before lives on for the calls on it."""

    def __init__(self, make: Make, version: Callable[[], object]) -> None:
        self._make, self._version = make, version
        self._now = version()
        self._inner = make()
        self._past: list[grpc.aio.Channel] = []  # a certificate lives for weeks: few, and gRPC disconnects idle ones
        self._closed = False

    def current(self) -> grpc.aio.Channel:
        """Return the channel for a call that begins now."""
        version = self._version()
        if version != self._now and not self._closed:
            self._past.append(self._inner)
            self._inner, self._now = self._make(), version
        return self._inner

    async def close(self, grace: float | None = None) -> None:
        """Close all of them."""
        self._closed = True
        for channel in (*self._past, self._inner):
            await channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the channel in use."""
        return self.current().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the channel in use has another state."""
        await self.current().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the channel in use is connected."""
        await self.current().channel_ready()

    def unary_unary(self, *given: Any, **named: Any) -> Any:
        """Return a method for a stub."""
        return _Method(self, "unary_unary", given, named)

    def unary_stream(self, *given: Any, **named: Any) -> Any:
        """Return a method for a stub."""
        return _Method(self, "unary_stream", given, named)

    def stream_unary(self, *given: Any, **named: Any) -> Any:
        """Return a method for a stub."""
        return _Method(self, "stream_unary", given, named)

    def stream_stream(self, *given: Any, **named: Any) -> Any:
        """Return a method for a stub."""
        return _Method(self, "stream_stream", given, named)


class _Method:
    def __init__(self, channel: RenewingChannel, kind: str, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._channel, self._kind, self._given, self._named = channel, kind, given, named
        self._made_on: grpc.aio.Channel | None = None
        self._made: Callable[..., Any] | None = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        channel = self._channel.current()
        if self._made is None or channel is not self._made_on:
            self._made = getattr(channel, self._kind)(*self._given, **self._named)
            self._made_on = channel
        return self._made(*given, **named)
