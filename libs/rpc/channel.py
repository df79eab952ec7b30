"""Channels to the other services: tokens and trace context on every call, quick reconnects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from libs.rpc import traces
from libs.rpc.identity import Identity
from libs.rpc.interceptors import MESH_KEY, OPERATOR_KEY
from libs.rpc.renewing import RenewingChannel
from libs.rpc.server import MAX_MESSAGE_BYTES

OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # the mesh is never behind the machine's http_proxy
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def open_channel(address: str, *, mesh_token: str, operator_token: str = "") -> grpc.aio.Channel:
    """Return a channel to `address` (host:port); it connects by itself and again after a restart.

    Several, separated by commas, are replicas of one service: gRPC calls the first that it can connect to, and the
    next one when that connection breaks or answers no keepalive (pick_first). One at a time, so that a replica that
    stands still holds up calls once, and not every second one for as long as it stands.
    """
    interceptors = _interceptors(((MESH_KEY, mesh_token), (OPERATOR_KEY, operator_token)))
    return grpc.aio.insecure_channel(_target_of(address), options=OPTIONS, interceptors=interceptors)


def open_secure_channel(address: str, peer: str, *, identity: Identity, operator_token: str = "") -> grpc.aio.Channel:
    """Return the same for a mesh of certificates: whoever answers must have one of the role `peer`."""
    options = (*OPTIONS, *named(peer))
    interceptors = _interceptors(((OPERATOR_KEY, operator_token),))

    def connect() -> grpc.aio.Channel:
        return grpc.aio.secure_channel(
            _target_of(address), identity.for_channel(), options=options, interceptors=interceptors
        )

    return RenewingChannel(connect, lambda: identity.papers().stamp)


def named(peer: str) -> tuple[tuple[str, str], ...]:
    """Return the option by which a peer's certificate must be that of its role, whatever its address."""
    return (("grpc.ssl_target_name_override", peer),)


def _interceptors(tokens: Iterable[tuple[str, str]]) -> list[grpc.aio.ClientInterceptor]:
    held = [(key, token) for key, token in tokens if token]
    return [*traces.client_interceptors(), _UnaryTokens(held), _StreamTokens(held)]


def _target_of(address: str) -> str:
    return f"ipv4:{address}" if "," in address else address


@contextmanager
def ended(call: grpc.aio.Call) -> Iterator[None]:
    """End a stream when its reader leaves the block, instead of when it is collected."""
    try:
        yield
    finally:
        call.cancel()


class _Tokens:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens

    def _with_tokens(self, details: grpc.aio.ClientCallDetails) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *self._tokens, *traces.handed_on())
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _UnaryTokens(_Tokens, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._with_tokens(client_call_details), request)


class _StreamTokens(_Tokens, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await continuation(self._with_tokens(client_call_details), request)
