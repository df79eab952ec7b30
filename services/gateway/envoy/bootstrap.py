"""The whole configuration: one listener, the clusters behind it, tracing, the admin port."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.bootstrap.v3 import (
    Admin,
    Bootstrap,
    BootstrapStaticResources,
    LayeredRuntime,
    RuntimeLayer,
)
from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    Http2ProtocolOptions,
    KeepaliveSettings,
    Node,
    SocketAddress,
    SubstitutionFormatString,
)
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.trace.v3 import OpenTelemetryConfig, TracingHttp
from envoy_data_plane.envoy.extensions.access_loggers.stream.v3 import StdoutAccessLog
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import JwtAuthentication
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerTracing,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.tracing.v3 import CustomTag
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.google.protobuf import Any, Struct

from libs.roles import GATEWAY, RATELIMITER
from services.gateway.envoy import authorization, filters, key_file, replies, routes, tls, tokens
from services.gateway.envoy.bursts import SHIPPED, Bursts
from services.gateway.envoy.tls import PLAIN, Tls
from services.gateway.envoy.tokens import Tokens

OTLP, KEYS = "otlp", "jwks"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_MAX_STREAMS = 20_000  # event streams are long; Envoy's default of 1024 requests would refuse readers
_LINE_BUFFER_BYTES = 1024 * 1024
_TOLD_PATH = len("/v1/jobs/job_") + 26 + 1  # of a path in logs and spans: signatures and tokens stand behind that
_PATH = f"%PATH(NQ:ORIG_OR_PATH):{_TOLD_PATH}%"  # and of a key put into it, too little is left to use it
_MAX_HEADERS_KIB = 16  # a token of an identity provider has a few


@dataclass(frozen=True, slots=True)
class Edge:
    """What the configuration depends on; addresses are host:port, an empty `otlp` switches tracing off.

    `trusted_hops` are the proxies before this door whose X-Forwarded-For is believed; None for `bursts` is no bound,
    for `tokens` that none are taken.
    """

    listen: str
    admin: str
    gateway: str
    ratelimiter: str
    otlp: str = ""
    bursts: Bursts | None = SHIPPED
    trusted_hops: int = 0
    tls: Tls = PLAIN
    tokens: Tokens | None = None


def render(edge: Edge) -> Bootstrap:
    """Return Envoy's bootstrap configuration."""
    clusters = [_peer(edge, GATEWAY, edge.gateway), _peer(edge, RATELIMITER, edge.ratelimiter)]
    if edge.otlp:
        clusters.append(_cluster(OTLP, edge.otlp))
    if edge.tokens and edge.tokens.remote:
        clusters.append(_keys(*edge.tokens.remote))
    runtime = Struct.from_dict({"tracing": {"opentelemetry": {"flush_interval_ms": 500}}})
    bootstrap = Bootstrap(
        node=Node(id="door", cluster="darkroom") if edge.tls != PLAIN else None,  # asked for by secrets from files
        admin=Admin(address=_address(edge.admin)),
        static_resources=BootstrapStaticResources(listeners=[_listener(edge)], clusters=clusters),
        layered_runtime=LayeredRuntime(layers=[RuntimeLayer(name="static", static_layer=runtime)]),
    )
    if edge.tokens and not edge.tokens.remote:
        path = Path(edge.tokens.jwks).absolute()
        key_file.serve(bootstrap, KEYS, str(path), str(path.parent))
    return bootstrap


def _listener(edge: Edge) -> Listener:
    manager = HttpConnectionManager(
        stat_prefix="edge",
        use_remote_address=True,
        xff_num_trusted_hops=edge.trusted_hops,
        always_set_request_id_in_response=True,
        normalize_path=True,
        max_request_headers_kb=_MAX_HEADERS_KIB,
        stream_idle_timeout=timedelta(minutes=5),
        request_headers_timeout=timedelta(seconds=10),
        route_config=routes.public(GATEWAY),
        http_filters=filters.chain(RATELIMITER, edge.bursts, _jwt(edge)),
        local_reply_config=replies.as_json(),
        access_log=[_access_log()],
        tracing=_tracing() if edge.otlp else None,
    )
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))],
        transport_socket=tls.downstream(edge.tls),
    )
    return Listener(
        name="public",
        address=_address(edge.listen),
        filter_chains=[chain],
        per_connection_buffer_limit_bytes=_LINE_BUFFER_BYTES,
    )


def _jwt(edge: Edge) -> JwtAuthentication | None:
    return tokens.authentication(edge.tokens, KEYS) if edge.tokens else None


def _access_log() -> AccessLog:
    # The query is left out: it holds signatures of links.
    line = {
        "time": "%START_TIME%",
        "service": "envoy",
        "method": "%REQ(:METHOD)%",
        "path": _PATH,
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "milliseconds": "%DURATION%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "trace_id": "%TRACE_ID%",
    }
    form = SubstitutionFormatString(json_format=Struct.from_dict(line))
    return AccessLog(name="envoy.access_loggers.stdout", typed_config=Any.pack(StdoutAccessLog(log_format=form)))


def _tracing() -> HttpConnectionManagerTracing:
    provider = OpenTelemetryConfig(service_name="darkroom-envoy", grpc_service=authorization.grpc_to(OTLP, 0.5))
    return HttpConnectionManagerTracing(
        random_sampling=Percent(value=100.0),
        spawn_upstream_span=True,
        max_path_tag_length=_TOLD_PATH,
        # Of a URL a span tells the path only: whoever puts a key into the query is refused, but has sent it.
        custom_tags=[CustomTag(tag="http.url", value=_PATH)],
        provider=TracingHttp(name="envoy.tracers.opentelemetry", typed_config=Any.pack(provider)),
    )


def _peer(edge: Edge, role: str, address: str) -> Cluster:
    cluster = _cluster(role, address)
    cluster.transport_socket = tls.upstream(edge.tls, role)
    return cluster


def _cluster(name: str, address: str) -> Cluster:
    http2 = Http2ProtocolOptions(
        connection_keepalive=KeepaliveSettings(interval=timedelta(seconds=30), timeout=timedelta(seconds=10))
    )
    options = HttpProtocolOptions(
        explicit_http_config=HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=http2)
    )
    endpoint = LbEndpoint(endpoint=Endpoint(address=_address(address)))
    threshold = CircuitBreakersThresholds(max_requests=_MAX_STREAMS, max_pending_requests=_MAX_STREAMS)
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC if _is_ip(address) else ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=timedelta(seconds=1),
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
        circuit_breakers=CircuitBreakers(thresholds=[threshold]),
        typed_extension_protocol_options={_HTTP_OPTIONS: Any.pack(options)},
    )


def _keys(host: str, port: int, secure: bool) -> Cluster:
    cluster = _cluster(KEYS, f"{host}:{port}")
    cluster.typed_extension_protocol_options = {}  # HTTP/1.1, as every provider speaks it
    cluster.transport_socket = tokens.authenticated(host) if secure else None
    return cluster


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(socket_address=SocketAddress(address=host.strip("[]"), port_value=int(port)))


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
