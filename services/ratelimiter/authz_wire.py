"""Envoy's question and answer ⇄ the domain.

Headers of an answer are added only where the gateway set none: a decision is fresher than this peek.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass

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

from libs.errors import Unauthenticated
from libs.rpc import status
from services.ratelimiter.door import Answer, Caller
from services.ratelimiter.headers import Header

_TENANT, _TIER, _KEY_ID = "x-darkroom-tenant", "x-darkroom-tier", "x-darkroom-key-id"
_REPLACE = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_ADD = HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT


@dataclass(frozen=True, slots=True)
class Question:
    """What a request shows of its caller; empty where it shows nothing. A key in the URL is not looked at."""

    authorization: str
    address: str
    is_grpc: bool


def question_from_envoy(request: CheckRequest) -> Question:
    """Return the question; the address is the one that Envoy trusts."""
    attributes = request.attributes
    asked = attributes.request if attributes else None
    headers = asked.http.headers if asked and asked.http else {}
    source = attributes.source if attributes else None
    socket = source.address.socket_address if source and source.address else None
    return Question(
        authorization=headers.get("authorization", ""),
        address=socket.address if socket else "",
        is_grpc=headers.get("content-type", "").startswith("application/grpc"),
    )


def answer_to_envoy(answer: Answer, *, is_grpc: bool) -> CheckResponse:
    """Return the welcome with the trusted headers, or the 401 in the caller's own protocol."""
    if answer.refusal is not None:
        return _refused(answer, answer.refusal, is_grpc=is_grpc)
    identity, removed = _identity(answer.caller)
    welcome = OkHttpResponse(
        headers=_options(identity, _REPLACE),
        headers_to_remove=["authorization", *removed],
        response_headers_to_add=_options(answer.headers, _ADD),
    )
    return CheckResponse(status=Status(code=code_pb2.OK), ok_response=welcome)


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
