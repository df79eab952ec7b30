"""Envoy's question and answer ⇄ the domain.

Headers of an answer are added only where the gateway set none: a decision is fresher than this peek.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from google.protobuf import json_format, struct_pb2
from google.rpc import code_pb2, status_pb2

from darkroom.ratelimiter.v1 import ext_authz_pb2 as pb
from libs import scopes
from libs.errors import DarkroomError, Unauthenticated
from libs.rpc import status
from services.ratelimiter.door.callers import Caller, Claims, Question
from services.ratelimiter.door.door import Answer
from services.ratelimiter.headers import Header

_TENANT, _TIER, _KEY_ID, _SCOPES = "x-darkroom-tenant", "x-darkroom-tier", "x-darkroom-key-id", "x-darkroom-scopes"
_ENDS, _ADDRESS, _CLIENT = "x-darkroom-ends", "x-darkroom-address", "x-darkroom-client"
_TOKENS, _CLAIMS, _FAULT = "envoy.filters.http.jwt_authn", "claims", "fault"  # as services.gateway.envoy.tokens says
_SKEW_S = 30  # after its `exp` a token is taken for so long, as the same module says
_ADD, _REPLACE = 1, 2  # what becomes of a header that is there already
_UNAUTHORIZED, _TOO_MANY = 401, 429


def question_from_envoy(request: pb.CheckRequest) -> Question:
    """Return the question; the address is the one that Envoy trusts."""
    asked, peer = request.attributes.request.http, request.attributes.source.address.socket_address.address
    # Behind a proxy the peer is the proxy; Envoy strips this header from outside and says whom it believes in.
    claims, fault, ends_s = _token(request.attributes.metadata_context)
    address = asked.headers.get(_CLIENT, peer)
    return Question(address, dict(asked.headers), asked.method, asked.path, claims, fault, ends_s)


def _token(context: pb.CheckRequest.Metadata) -> tuple[Claims | None, str, float | None]:
    """Return the claims of a good token and its end, else what is wrong with it; nothing outside can set any of it."""
    if _TOKENS not in context.filter_metadata:
        return None, "", None
    found = context.filter_metadata[_TOKENS].fields
    if _CLAIMS in found:
        told = found[_CLAIMS].struct_value.fields
        return {name: _texts(value) for name, value in told.items()}, "", told["exp"].number_value + _SKEW_S
    return None, found[_FAULT].struct_value.fields["message"].string_value if _FAULT in found else "", None


def _texts(value: struct_pb2.Value) -> tuple[str, ...]:
    """Return what a claim says in words; numbers and objects say nothing here."""
    items = value.list_value.values if value.HasField("list_value") else (value,)
    return tuple(item.string_value for item in items if item.HasField("string_value"))


def answer_to_envoy(answer: Answer, *, in_grpc: bool) -> pb.CheckResponse:
    """Return the welcome with the trusted headers, or the 401 in the caller's own protocol."""
    if answer.refusal is not None:
        return _refused(answer, answer.refusal, in_grpc=in_grpc)
    identity, removed = _identity(answer.caller)
    welcome = pb.CheckResponse.Welcome(
        headers=_options(identity, _REPLACE),
        headers_to_remove=["authorization", "cookie", _CLIENT, *removed],
        response_headers_to_add=_options(answer.headers, _ADD),
    )
    return pb.CheckResponse(status=status_pb2.Status(code=code_pb2.OK), ok_response=welcome)


def _identity(caller: Caller) -> tuple[list[Header], list[str]]:
    """Return the trusted headers to set, and those from outside that nothing replaces."""
    who = [(_TENANT, caller.tenant_id), (_TIER, caller.tier), (_SCOPES, scopes.text(caller.scopes)), *caller.trusted]
    ends = "" if caller.ends_s is None else repr(caller.ends_s)
    optional = {_KEY_ID: caller.key_id, _ENDS: ends, _ADDRESS: caller.address}
    known = [(name, value) for name, value in optional.items() if value]
    return [*who, *known], [name for name, value in optional.items() if not value]


def _refused(answer: Answer, error: DarkroomError, *, in_grpc: bool) -> pb.CheckResponse:
    body, headers = _as_grpc(error) if in_grpc else _as_json(error)
    unknown = isinstance(error, Unauthenticated)
    ask = (("www-authenticate", "Bearer"),) if unknown else ()
    refused = pb.CheckResponse.Denied(
        status=pb.CheckResponse.Denied.HttpStatus(code=_UNAUTHORIZED if unknown else _TOO_MANY),
        headers=_options([*headers, *ask, *answer.headers], _REPLACE),
        body=body,
    )
    told = status_pb2.Status(code=status.to_status(error).code, message=error.reason)
    return pb.CheckResponse(status=told, denied_response=refused)


def _as_json(error: DarkroomError) -> tuple[str, list[Header]]:
    document = json_format.MessageToDict(status.to_status(error), always_print_fields_with_no_presence=True)
    return json.dumps(document, ensure_ascii=False), [("content-type", "application/json")]


def _as_grpc(error: DarkroomError) -> tuple[str, list[Header]]:
    """Envoy makes the body the `grpc-message`; the details go in the header that gRPC clients read."""
    told = status.to_status(error)
    details = base64.b64encode(told.SerializeToString()).decode().rstrip("=")
    return error.message, [("grpc-status-details-bin", details), ("grpc-status", str(told.code))]


def _options(headers: Iterable[Header], action: int) -> list[pb.CheckResponse.HeaderOption]:
    made = pb.CheckResponse.HeaderOption
    return [made(header=made.Header(key=name, value=value), append_action=action) for name, value in headers]
