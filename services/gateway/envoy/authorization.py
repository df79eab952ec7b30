"""The question to the rate limiter that every request brings: who is calling, and what may they still spend?

`deadlines.LIMITER_S`, then 503: without an answer nobody is let in (design/1-overview, When a part is down). Only what needs
no caller – signed links, health, the page – goes on without one. Failing open cannot be set by route, so there are
two filters, and every route switches one of them off.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import ApiVersion, GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthz, ExtAuthzPerRoute
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Any

from libs.rpc import deadlines
from services.gateway.envoy import tokens

MESH_KEY = "x-darkroom-mesh-token"
MESH_TOKEN = "%ENVIRONMENT(DARKROOM_MESH_TOKEN)%"
STRICT, LENIENT = "envoy.filters.http.ext_authz", "darkroom.ext_authz.lenient"


def check(cluster: str, *, lenient: bool) -> ExtAuthz:
    """Return an ext_authz filter, which never sends bodies; a lenient one lets in when it has no answer."""
    service = grpc_to(cluster, deadlines.LIMITER_S)
    service.initial_metadata = [HeaderValue(key=MESH_KEY, value=MESH_TOKEN)]
    return ExtAuthz(
        grpc_service=service,
        transport_api_version=ApiVersion.V3,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
        failure_mode_allow=lenient,
        metadata_context_namespaces=[tokens.METADATA],
    )


def on_route(*, lenient: bool) -> Mapping[str, Any]:
    """Return a route's part of the filters' configuration: the other one is off there."""
    return {STRICT if lenient else LENIENT: Any.pack(ExtAuthzPerRoute(disabled=True))}


def grpc_to(cluster: str, timeout_s: float) -> GrpcService:
    """Return a gRPC service of Envoy's own at `cluster`."""
    target = GrpcServiceEnvoyGrpc(cluster_name=cluster)
    return GrpcService(envoy_grpc=target, timeout=timedelta(seconds=timeout_s))
