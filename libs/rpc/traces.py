"""How traces go with calls: in spans of their own where spans are recorded, else only handed on.

OpenTelemetry's interceptors make a span of every call and look at every message of a stream, whether anybody records
them or not; that is a tenth of what a short call costs. Processes that record nothing leave them out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from opentelemetry import context, propagate
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor, filters

from libs.telemetry import tracing

Pairs = Sequence[tuple[str, str]]
_KEY = "traceparent"


def server_interceptor() -> grpc.aio.ServerInterceptor:
    """Return what has a call run in its caller's trace."""
    if tracing.recorded():
        found: grpc.aio.ServerInterceptor = aio_server_interceptor(filter_=filters.negate(filters.health_check()))  # type: ignore[no-untyped-call]
        return found
    return HandedOn()


def client_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """Return what makes spans of calls, where spans are recorded."""
    return [*aio_client_interceptors()] if tracing.recorded() else []  # type: ignore[no-untyped-call]


def handed_on() -> Pairs:
    """Return the metadata that hands on the trace which runs now; nothing where `client_interceptors` do."""
    carrier: dict[str, str] = {}
    if not tracing.recorded():
        propagate.inject(carrier)
    return tuple(carrier.items())


class HandedOn(grpc.aio.ServerInterceptor):
    """Has a call run in its caller's trace, without a span."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Take up the caller's context; the task of the call, which this runs in, ends with it."""
        carrier = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        if _KEY in carrier:
            context.attach(propagate.extract(carrier))
        return await continuation(details)
