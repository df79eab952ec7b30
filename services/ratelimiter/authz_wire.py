"""Envoy's question and answer ⇄ the domain.

Headers of an answer are added only where the gateway set none: a decision is fresher than this peek.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.rpc import Status
from google.protobuf import json_format
from google.rpc import code_pb2

from libs import scopes
from libs.errors import Unauthenticated
from libs.rpc import status
from services.ratelimiter.callers import Caller, Question
from services.ratelimiter.door import Answer
from services.ratelimiter.headers import Header

_TENANT, _TIER, _KEY_ID, _SCOPES = "x-darkroom-tenant", "x-darkroom-tier", "x-darkroom-key-id", "x-darkroom-scopes"
_CLIENT = "x-darkroom-client"
_REPLACE = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_ADD = HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT


def question_from_envoy(request: CheckRequest) -> Question:
    """Return the question; the address is the one that Envoy trusts."""
    attributes = request.attributes
    asked = attributes.request.http if attributes and attributes.request else None
    source = attributes.source if attributes else None
    socket = source.address.socket_address if source and source.address else None
    address = socket.address if socket else ""
    if asked is None:
        return Question(address)
    # Behind a proxy the peer is the proxy; Envoy strips this header from outside and says whom it believes in.
    return Question(asked.headers.get(_CLIENT, address), asked.headers, asked.method, asked.path)


def is_grpc(question: Question) -> bool:
    """Whether the caller speaks gRPC or gRPC-web, and is to be refused in it."""
    return question.headers.get("content-type", "").startswith("application/grpc")


def answer_to_envoy(answer: Answer, *, in_grpc: bool) -> CheckResponse:
    """Return the welcome with the trusted headers, or the 401 in the caller's own protocol."""
    if answer.refusal is not None:
        return _refused(answer, answer.refusal, in_grpc=in_grpc)
    identity, removed = _identity(answer.caller)
    welcome = OkHttpResponse(
        headers=_options(identity, _REPLACE),
        headers_to_remove=["authorization", _CLIENT, *removed],
        response_headers_to_add=_options(answer.headers, _ADD),
    )
    return CheckResponse(status=Status(code=code_pb2.OK), ok_response=welcome)


def _identity(caller: Caller) -> tuple[list[Header], list[str]]:
    """Return the trusted headers to set, and those from outside that nothing replaces."""
    who = [(_TENANT, caller.tenant_id), (_TIER, caller.tier), (_SCOPES, scopes.text(caller.scopes)), *caller.trusted]
    return ([*who, (_KEY_ID, caller.key_id)], []) if caller.key_id else (who, [_KEY_ID])


def _refused(answer: Answer, error: Unauthenticated, *, in_grpc: bool) -> CheckResponse:
    body, headers = _as_grpc(error) if in_grpc else _as_json(error)
    refused = DeniedHttpResponse(
        status=HttpStatus(code=StatusCode.Unauthorized),
        headers=_options([*headers, ("www-authenticate", "Bearer"), *answer.headers], _REPLACE),
        body=body,
    )
    return CheckResponse(status=Status(code=code_pb2.UNAUTHENTICATED, message=error.reason), denied_response=refused)


def _as_json(error: Unauthenticated) -> tuple[str, list[Header]]:
    document = json_format.MessageToDict(status.to_status(error), always_print_fields_with_no_presence=True)
    return json.dumps(document, ensure_ascii=False), [("content-type", "application/json")]


def _as_grpc(error: Unauthenticated) -> tuple[str, list[Header]]:
    """Envoy makes the body the `grpc-message`; the details go in the header that gRPC clients read."""
    details = base64.b64encode(status.to_status(error).SerializeToString()).decode().rstrip("=")
    return error.message, [("grpc-status-details-bin", details)]


def _options(headers: Iterable[Header], action: HeaderValueOptionHeaderAppendAction) -> list[HeaderValueOption]:
    return [HeaderValueOption(header=HeaderValue(key=k, value=v), append_action=action) for k, v in headers]
