"""Envoy's own refusals in the same JSON as everybody else's: a flat `google.rpc.Status`.

gRPC callers are left alone: Envoy answers them with a grpc-status. A denial of ext_authz already is JSON and
would be wrapped twice. A transcoded request carries a gRPC content type by then, so it is known by its
`x-envoy-original-path`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envoy_data_plane.envoy.config.accesslog.v3 import (
    AccessLogFilter,
    AndFilter,
    ComparisonFilter,
    ComparisonFilterOp,
    HeaderFilter,
    OrFilter,
    ResponseFlagFilter,
    StatusCodeFilter,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    RuntimeUInt32,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    LocalReplyConfig,
    ResponseMapper,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Struct

from services.gateway.envoy import bursts

_ANY = "%LOCAL_REPLY_BODY%"
_AUTHZ_FLAG = "UAEX"
_RETRY = HeaderValueOption(header=HeaderValue(key="retry-after", value="1"))


@dataclass(frozen=True, slots=True)
class Reply:
    """One kind of refusal: HTTP status, gRPC code, reason of the table in libs.rpc.status, words."""

    status: int
    code: int
    reason: str
    message: str = _ANY


REPLIES = (
    Reply(400, 3, "INVALID_REQUEST"),
    Reply(404, 5, "NOT_FOUND"),
    Reply(408, 4, "DEADLINE_EXCEEDED", "The request did not arrive in time. Nothing was charged; send it again."),
    Reply(413, 3, "REQUEST_TOO_LARGE", "The body is larger than 256 KiB. Nothing was charged; send a smaller one."),
    Reply(426, 3, "INVALID_REQUEST", "This HTTP version is too old. Use HTTP/1.1 or newer."),
    Reply(
        431,
        3,
        "INVALID_REQUEST",
        "The headers are larger than 16 KiB. Nothing was charged; send fewer or shorter ones.",
    ),
    Reply(500, 13, "INTERNAL", "Something failed on our side. Nothing was charged; the same request may succeed."),
    Reply(502, 14, "UNAVAILABLE", "The service restarts. Nothing was charged; try again in a second."),
    Reply(503, 14, "UNAVAILABLE", "The service restarts. Nothing was charged; try again in a second."),
    Reply(504, 4, "DEADLINE_EXCEEDED", "No answer in time. A job that was accepted goes on; read it by its id."),
)
_TOO_FAST = "Nothing was charged; the same request will be taken in a second."
STRANGER_TOO_FAST = Reply(
    429,
    8,
    "RPM_EXHAUSTED",
    f"Requests without a key come too fast from this address. {_TOO_FAST} Requests with a key have more room.",
)
FLOOD = Reply(429, 8, "RPM_EXHAUSTED", f"Requests come too fast from this address. {_TOO_FAST}")
KEYED_TOO_FAST = Reply(429, 8, "RPM_EXHAUSTED", f"Requests come too fast with this key or token. {_TOO_FAST}")
READS_TOO_FAST = Reply(
    429,
    8,
    "RPM_EXHAUSTED",
    "Jobs are read too often with this key, or without one from this address. Nothing was charged and what you create "
    "is not held up; read again in a second, or follow a job by its events: one request for all of it.",
)
BURSTS = (STRANGER_TOO_FAST, FLOOD, KEYED_TOO_FAST, READS_TOO_FAST)
LIMITER_GONE = Reply(
    503,
    14,
    "LIMITER_DEGRADED",
    "Who is calling cannot be checked right now. Nothing was charged; try again in a second.",
)


def as_json() -> LocalReplyConfig:
    """Return the mappers, first match wins."""
    limiter_gone = _all_of(_authz(), _status(503), _not_grpc())
    mappers = [
        _mapper(LIMITER_GONE, limiter_gone, retry=True),
        ResponseMapper(filter=_authz()),  # already JSON, or gRPC with its own status: left as it is
        *_bursts(),
        *(_mapper(r, _all_of(_status(r.status), _not_grpc()), retry=r.status in (502, 503)) for r in REPLIES),
    ]
    return LocalReplyConfig(mappers=mappers)


def _bursts() -> list[ResponseMapper]:
    """Return the mappers of what came too fast; gRPC has its own status and is told when to come again."""
    burst, asked = _status(429), (bursts.CREATING, bursts.ESTIMATING)  # the filter sets its flag only afterwards
    creating = AccessLogFilter(or_filter=OrFilter(filters=[_header(bursts.path(regex)) for regex in asked]))
    posted = _header(bursts.posted())
    in_words = _all_of(burst, _not_grpc())
    unchecked = _header(bursts.authorized())  # what has been checked is taken away
    unknown = HeaderMatcher(name=bursts.KEY_ID, present_match=True, invert_match=True)
    return [
        _mapper(FLOOD, _all_of(in_words, unchecked), retry=True),
        _mapper(STRANGER_TOO_FAST, _all_of(in_words, creating, posted, _header(unknown)), retry=True),
        _mapper(KEYED_TOO_FAST, _all_of(in_words, creating, posted), retry=True),
        _mapper(READS_TOO_FAST, in_words, retry=True),
        ResponseMapper(filter=burst, headers_to_add=[_RETRY]),
    ]


def body(reply: Reply) -> Mapping[str, object]:
    """Return the JSON that a refusal carries."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reply.reason,
        "domain": "darkroom",
        "metadata": {},
    }
    return {"code": reply.code, "message": reply.message, "details": [info]}


def _mapper(reply: Reply, condition: AccessLogFilter, *, retry: bool) -> ResponseMapper:
    form = SubstitutionFormatString(json_format=Struct.from_dict(dict(body(reply))), content_type="application/json")
    return ResponseMapper(filter=condition, body_format_override=form, headers_to_add=[_RETRY] if retry else [])


def _all_of(*conditions: AccessLogFilter) -> AccessLogFilter:
    return AccessLogFilter(and_filter=AndFilter(filters=list(conditions)))


def _authz() -> AccessLogFilter:
    return AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=[_AUTHZ_FLAG]))


def _header(matcher: HeaderMatcher) -> AccessLogFilter:
    return AccessLogFilter(header_filter=HeaderFilter(header=matcher))


def _status(code: int) -> AccessLogFilter:
    value = RuntimeUInt32(default_value=code, runtime_key=f"darkroom.reply_{code}")
    comparison = ComparisonFilter(op=ComparisonFilterOp.EQ, value=value)
    return AccessLogFilter(status_code_filter=StatusCodeFilter(comparison=comparison))


def _not_grpc() -> AccessLogFilter:
    transcoded = HeaderMatcher(name="x-envoy-original-path", present_match=True)
    plain = HeaderMatcher(
        name="content-type",
        string_match=StringMatcher(prefix="application/grpc"),
        invert_match=True,
        treat_missing_header_as_empty=True,
    )
    return AccessLogFilter(or_filter=OrFilter(filters=[_header(transcoded), _header(plain)]))
