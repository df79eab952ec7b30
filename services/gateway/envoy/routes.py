"""Who may go where, and for how long. The transcoder routes REST by the gRPC path it turns into."""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import CorsPolicy
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from services.gateway.envoy import authorization, filters
from services.gateway.envoy.authorization import MESH_KEY, MESH_TOKEN

_SERVICE = "/darkroom.v1."
_STREAMS = ("WatchJob", "StreamJobEvents", "DownloadImage")
_WAITING = ("CreateJob", "CreateJobJson")  # `Prefer: wait` holds them up to 60 s
_UPLOADS = (f"{_SERVICE}UploadService/UploadImage", "/v1/uploads")  # as it comes, and as it is transcoded
_WAIT_S, _ANSWER_S, _UPLOADED_S = 75, 30, 60
_STREAM_IDLE = timedelta(hours=1)  # a typed watch says nothing while its job waits
_EXPOSED = (
    "x-request-id,location,retry-after,etag,grpc-status,grpc-message,grpc-status-details-bin,ratelimit,ratelimit-policy,"
    "x-ratelimit-limit,x-ratelimit-remaining,x-ratelimit-reset,x-ratelimit-limit-requests,"
    "x-ratelimit-remaining-requests,x-ratelimit-reset-requests,x-ratelimit-limit-cost,x-ratelimit-remaining-cost,"
    "x-ratelimit-reset-cost,x-ratelimit-limit-concurrent,x-ratelimit-remaining-concurrent,x-ratelimit-limit-daily,"
    "x-ratelimit-remaining-daily,x-ratelimit-reset-daily,retry-after-ms,x-should-retry,x-queue-position,"
    "x-estimated-wait,x-model-version,x-cost-estimated,x-cache,x-notice"
)


def public(gateway: str) -> RouteConfiguration:
    """Return the routes: the public API, health and page go to the gateway, all else is 404."""
    generation = f"{_SERVICE}GenerationService/"
    host = VirtualHost(
        name="public",
        domains=["*"],
        routes=[
            _to(gateway, RouteMatch(path=generation + "DownloadBlob"), 0, lenient=True),
            *(_to(gateway, RouteMatch(path=generation + name), 0) for name in _STREAMS),
            *(_to(gateway, RouteMatch(path=generation + name), _WAIT_S) for name in _WAITING),
            *(_open_ended(_to(gateway, RouteMatch(path=path), _UPLOADED_S)) for path in _UPLOADS),
            _to(gateway, RouteMatch(prefix=_SERVICE), _ANSWER_S),
            _to(gateway, RouteMatch(prefix="/v1/blobs/"), _ANSWER_S, lenient=True),
            _to(gateway, RouteMatch(prefix="/v1/"), _ANSWER_S),
            _to(gateway, RouteMatch(path="/healthz"), _ANSWER_S, lenient=True),
            _to(gateway, RouteMatch(path="/"), _ANSWER_S, lenient=True),
            _nothing_here(),
        ],
        request_headers_to_add=[_header(MESH_KEY, MESH_TOKEN)],
        typed_per_filter_config={"envoy.filters.http.cors": Any.pack(_cors())},
    )
    return RouteConfiguration(name="public", virtual_hosts=[host])


def _to(cluster: str, match: RouteMatch, timeout_s: int, *, lenient: bool = False) -> Route:
    # Retried only where nothing can have reached the gateway: it restarts, or refuses the stream.
    retry = RetryPolicy(retry_on="connect-failure,refused-stream", num_retries=3)
    action = RouteAction(cluster=cluster, timeout=timedelta(seconds=timeout_s), retry_policy=retry)
    if not timeout_s:
        action.idle_timeout = _STREAM_IDLE
    return Route(match=match, route=action, typed_per_filter_config=dict(authorization.on_route(lenient=lenient)))


def _open_ended(route: Route) -> Route:
    """Let bodies of any length in; the gateway stops reading where they get too long."""
    route.typed_per_filter_config.update(filters.unbuffered())
    return route


def _nothing_here() -> Route:
    told = DataSource(inline_string="There is nothing at this path. The API lives under /v1.")
    answer = DirectResponseAction(status=404, body=told)
    strict = dict(authorization.on_route(lenient=False))
    return Route(match=RouteMatch(prefix="/"), direct_response=answer, typed_per_filter_config=strict)


def _header(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _cors() -> CorsPolicy:
    # Keys travel in a header, never in a cookie, so any origin may ask. The visitors' cookie stays with the page's own
    # origin: it is SameSite=Lax, and credentials are not allowed here.
    return CorsPolicy(
        allow_origin_string_match=[StringMatcher(safe_regex=RegexMatcher(regex=".*"))],
        allow_methods="GET,POST,DELETE,OPTIONS",
        allow_headers="authorization,content-type,idempotency-key,prefer,last-event-id,x-grpc-web,x-user-agent,grpc-timeout",
        expose_headers=_EXPOSED,
        max_age="86400",
    )
