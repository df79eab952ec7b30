"""What every server does to every call: check the mesh token or the certificate, map errors, send collected headers.

One ordered list for all services (see `libs.rpc.server`), so that no RPC can be forgotten.
"""

from __future__ import annotations

import hmac
import inspect
import logging
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from libs import errors
from libs.rpc import callers, headers, identity, status

logger = logging.getLogger(__name__)

MESH_KEY, OPERATOR_KEY = "x-darkroom-mesh-token", "x-darkroom-operator-token"
OPEN_PREFIXES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
_FOR_OPERATORS = re.compile(r"\.(Admin|Tenant|Usage)Service/")

Handler = Any  # grpc.RpcMethodHandler: the stubs do not type what a servicer puts inside
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


class StreamInterceptor(grpc.aio.ServerInterceptor):
    """Writes streams itself, outermost, so that whatever ends a call unwinds its generators in its own task.

    gRPC drops the generator of a call that ends amid a write; it would be closed later, in another context, where
    OpenTelemetry cannot leave its span and logs that as an error.
    """

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler:
        """Wrap methods that stream."""
        handler = await continuation(details)
        if handler is None or not handler.response_streaming or (details.method or "").startswith(OPEN_PREFIXES):
            return handler
        return _rebuilt(handler, _writing(handler.unary_stream or handler.stream_stream))


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without the mesh token, and calls for operators without the operator token."""

    def __init__(self, mesh_token: str, operator_token: str = "") -> None:
        self._mesh, self._operator = mesh_token.encode(), operator_token.encode()

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler:
        """Go on, or answer with the refusal."""
        method = details.method or ""
        handler = await continuation(details)
        if handler is None or method.startswith(OPEN_PREFIXES):
            return handler
        metadata = dict(details.invocation_metadata or ())
        if not _same(metadata.get(MESH_KEY), self._mesh):
            told = "This listener is for the mesh only: call Envoy's address, with an API key."
            return _refusing(handler, errors.Unauthenticated(told, reason="MESH_TOKEN_INVALID"))
        if _lacks_operator(method, metadata, self._operator):
            return _refusing(handler, _for_operators())
        return handler


class CertificateInterceptor(grpc.aio.ServerInterceptor):
    """Refuses callers whose certificate is of a role that has no business here (`libs.rpc.callers`).

    Connections without a certificate of the mesh's authority never come so far. Health and reflection are for every
    role: a caller at the door, whose certificate may be of the same authority, has none. Calls for operators need
    their token as well.
    """

    def __init__(self, operator_token: str = "") -> None:
        self._operator = operator_token.encode()

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler:
        """Go on, or answer with the refusal."""
        method = details.method or ""
        handler = await continuation(details)
        if handler is None:
            return handler
        metadata = dict(details.invocation_metadata or ())
        if _lacks_operator(method, metadata, self._operator):
            return _refusing(handler, _for_operators())
        return _for_callers(handler, method)


class AnswerInterceptor(grpc.aio.ServerInterceptor):
    """Sends collected headers as initial metadata and turns domain errors into rich statuses."""

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Handler:
        """Wrap the method whatever its kind."""
        handler = await continuation(details)
        if handler is None or (details.method or "").startswith(OPEN_PREFIXES):
            return handler
        if handler.response_streaming:
            inner = handler.unary_stream or handler.stream_stream
            return _rebuilt(handler, _streaming(inner))
        inner = handler.unary_unary or handler.stream_unary
        return _rebuilt(handler, _unary(inner))


def _writing(inner: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., Awaitable[None]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            async with aclosing(inner(request, context)) as messages:
                async for message in messages:
                    await context.write(message)
        except grpc.aio.InternalError:
            logger.debug("a reader left amid a write")

    return call


def _unary(inner: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        collected = headers.begin()
        try:
            response = await inner(request, context)
        except Exception as error:  # noqa: BLE001 – the process's last line: every failure becomes a status
            await _abort(context, error, collected)
        await context.send_initial_metadata(tuple(collected.items()))
        return response

    return call


def _streaming(inner: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncIterator[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        collected, sent = headers.begin(), False
        try:
            async with aclosing(inner(request, context)) as messages:  # a reader that leaves ends what lies behind
                async for message in messages:
                    if not sent:
                        await context.send_initial_metadata(tuple(collected.items()))
                        sent = True
                    yield message
        except Exception as error:  # noqa: BLE001 – the process's last line: every failure becomes a status
            await _abort(context, error, None if sent else collected)
        if not sent:
            await context.send_initial_metadata(tuple(collected.items()))

    return call


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], error: Exception, collected: dict[str, str] | None
) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    known = error if isinstance(error, errors.DarkroomError) else _unexpected(error)
    if collected is not None:
        if known.retry_after_s is not None:
            collected.setdefault("retry-after", str(max(1, math.ceil(known.retry_after_s))))
        await context.send_initial_metadata(tuple(collected.items()))
    await _abort_with(context, status.to_status(known))


async def _abort_with(context: grpc.aio.ServicerContext[Any, Any], answer: status_pb2.Status) -> None:
    wire = rpc_status.to_status(answer)
    await context.abort(wire.code, wire.details, tuple(wire.trailing_metadata))


def _unexpected(error: Exception) -> errors.InternalFault:
    logger.error("a call failed unexpectedly", exc_info=error)
    return errors.InternalFault(
        "Something failed on our side. Nothing was charged; the same request may succeed. "
        "The operator finds the details in the log under this request's x-request-id."
    )


def _lacks_operator(method: str, metadata: Mapping[str, str | bytes], operator: bytes) -> bool:
    """Whether a call is for operators and comes without their token."""
    return _FOR_OPERATORS.search(method) is not None and not _same(metadata.get(OPERATOR_KEY), operator)


def _for_operators() -> errors.PermissionDenied:
    told = "This call needs the operator token: use `darkroom --data`, or set DARKROOM_OPERATOR_TOKEN."
    return errors.PermissionDenied(told, reason="OPERATOR_TOKEN_INVALID")


def _refusing(handler: Handler, error: errors.DarkroomError) -> Handler:
    async def unary(_request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await _abort_with(context, status.to_status(error))

    async def streaming(_request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        await _abort_with(context, status.to_status(error))
        yield  # makes this a generator; never reached

    return _rebuilt(handler, streaming if handler.response_streaming else unary)


def _for_callers(handler: Handler, method: str) -> Handler:
    """Ask in the call itself who is calling: only there the connection is known."""

    inner = handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream

    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await _check_caller(method, context)
        return await inner(request, context)

    async def streaming(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        await _check_caller(method, context)
        async with aclosing(inner(request, context)) as messages:
            async for message in messages:
                yield message

    # Streams that write by themselves, as the one of health does, are awaited like one answer.
    return _rebuilt(handler, streaming if inspect.isasyncgenfunction(inner) else call)


async def _check_caller(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    callers_identities = identity.identities_of(context)
    if not callers.may_call(method, callers_identities):
        logger.warning("a caller was refused", extra={"method": method, "caller": callers_identities})
        told = "The certificate of the caller is not of a role that may make this call."
        await _abort_with(context, status.to_status(errors.PermissionDenied(told, reason="CERTIFICATE_ROLE")))


def _rebuilt(handler: Handler, behaviour: Callable[..., Any]) -> Handler:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


def _same(given: str | bytes | None, wanted: bytes) -> bool:
    held = given.encode() if isinstance(given, str) else given or b""
    return bool(wanted) and hmac.compare_digest(held, wanted)
