"""The question to the rate limiter that every request brings: who is calling, and what may they still spend?

One second, then 503: without an answer nobody is let in (design/1-overview, When a part is down).
"""

from __future__ import annotations

from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import ApiVersion, GrpcService, GrpcServiceEnvoyGrpc, HeaderValue
from envoy_data_plane.envoy.extensions.filters.http.ext_authz.v3 import ExtAuthz
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode

MESH_KEY = "x-darkroom-mesh-token"
MESH_TOKEN = "%ENVIRONMENT(DARKROOM_MESH_TOKEN)%"
TIMEOUT_S = 1.0


def check(cluster: str) -> ExtAuthz:
    """Return the ext_authz filter; bodies are never sent to it."""
    service = grpc_to(cluster, TIMEOUT_S)
    service.initial_metadata = [HeaderValue(key=MESH_KEY, value=MESH_TOKEN)]
    return ExtAuthz(
        grpc_service=service,
        transport_api_version=ApiVersion.V3,
        status_on_error=HttpStatus(code=StatusCode.ServiceUnavailable),
    )


def grpc_to(cluster: str, timeout_s: float) -> GrpcService:
    """Return a gRPC service of Envoy's own at `cluster`."""
    target = GrpcServiceEnvoyGrpc(cluster_name=cluster)
    return GrpcService(envoy_grpc=target, timeout=timedelta(seconds=timeout_s))
