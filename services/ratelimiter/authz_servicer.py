"""Envoy's `ext_authz` on the wire: its question to `Door`, and the answer as Envoy takes it.

Headers of an answer are added only where the gateway set none: a decision is fresher than this peek.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import grpc
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.rpc import Status
from google.protobuf import json_format

from libs.errors import Unauthenticated
from libs.rpc import status
from services.ratelimiter.door import Answer, Caller, Door
from services.ratelimiter.headers import Header

_SERVICE = "envoy.service.auth.v3.Authorization"
_TENANT, _TIER, _KEY_ID = "x-darkroom-tenant", "x-darkroom-tier", "x-darkroom-key-id"
_REPLACE = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_ADD = HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT


class AuthzServicer:
    """Answers `Check`. A failure of ours is left a failure: Envoy then answers 503 and lets nobody in."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def Check(self, request: CheckRequest, _context: grpc.aio.ServicerContext[Any, Any]) -> CheckResponse:
        """Let the caller in with their identity, or refuse with 401. Only the header is read, never the URL."""
        headers = _request_headers(request)
        answer = await self._door.check(headers.get("authorization", ""), _client_address(request))
        if answer.refusal is None:
            return _welcome(answer)
        is_grpc = headers.get("content-type", "").startswith("application/grpc")
        return _refused(answer, answer.refusal, is_grpc=is_grpc)


def handler(servicer: AuthzServicer) -> grpc.GenericRpcHandler:
    """Return the service for `grpc.aio.Server.add_generic_rpc_handlers`; no second copy of Envoy's protos is needed."""
    check = grpc.unary_unary_rpc_method_handler(
        servicer.Check, request_deserializer=CheckRequest.parse, response_serializer=bytes
    )
    return grpc.method_handlers_generic_handler(_SERVICE, {"Check": check})


def _request_headers(request: CheckRequest) -> dict[str, str]:
    asked = request.attributes.request if request.attributes else None
    return dict(asked.http.headers) if asked and asked.http else {}


def _client_address(request: CheckRequest) -> str:
    source = request.attributes.source if request.attributes else None
    socket = source.address.socket_address if source and source.address else None
    return socket.address if socket else ""


def _welcome(answer: Answer) -> CheckResponse:
    identity, removed = _identity(answer.caller)
    welcome = OkHttpResponse(
        headers=_options(identity, _REPLACE),
        headers_to_remove=["authorization", *removed],
        response_headers_to_add=_options(answer.headers, _ADD),
    )
    return CheckResponse(status=Status(code=grpc.StatusCode.OK.value[0]), ok_response=welcome)


def _identity(caller: Caller) -> tuple[list[Header], list[str]]:
    """Return the trusted headers to set, and those from outside that nothing replaces."""
    who = [(_TENANT, caller.tenant_id), (_TIER, caller.tier)]
    return ([*who, (_KEY_ID, caller.key_id)], []) if caller.key_id else (who, [_KEY_ID])


def _refused(answer: Answer, error: Unauthenticated, *, is_grpc: bool) -> CheckResponse:
    body, headers = _as_grpc(error) if is_grpc else _as_json(error)
    refused = DeniedHttpResponse(
        status=HttpStatus(code=StatusCode.Unauthorized),
        headers=_options([*headers, ("www-authenticate", "Bearer"), *answer.headers], _REPLACE),
        body=body,
    )
    code = grpc.StatusCode.UNAUTHENTICATED.value[0]
    return CheckResponse(status=Status(code=code, message=error.reason), denied_response=refused)


def _as_json(error: Unauthenticated) -> tuple[str, list[Header]]:
    document = json_format.MessageToDict(status.to_status(error), always_print_fields_with_no_presence=True)
    return json.dumps(document, ensure_ascii=False), [("content-type", "application/json")]


def _as_grpc(error: Unauthenticated) -> tuple[str, list[Header]]:
    """Envoy makes the body the `grpc-message`; the details go in the header that gRPC clients read."""
    details = base64.b64encode(status.to_status(error).SerializeToString()).decode().rstrip("=")
    return error.message, [("grpc-status-details-bin", details)]


def _options(headers: Iterable[Header], action: HeaderValueOptionHeaderAppendAction) -> list[HeaderValueOption]:
    return [HeaderValueOption(header=HeaderValue(key=k, value=v), append_action=action) for k, v in headers]
