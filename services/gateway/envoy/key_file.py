"""A file of an issuer's keys, read anew when it changes.

Envoy takes the keys of a file once, at its start; keys that it fetches it fetches again. So it serves the file to itself,
on a listener that has no address outside the process.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap
from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    DataSource,
    EnvoyInternalAddress,
    SubstitutionFormatString,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener, ListenerInternalListenerConfig
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.bootstrap.internal_listener.v3 import InternalListener
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.envoy.extensions.formatter.file_content.v3 import FileContent
from envoy_data_plane.google.protobuf import Any

URL = "http://jwks/keys"
_LISTENER = "jwks-file"


def serve(bootstrap: Bootstrap, cluster: str, path: str, folder: str) -> None:
    """Add the listener, and the cluster that leads to it; a file that is moved into `folder` counts as a change."""
    bootstrap.bootstrap_extensions.append(
        TypedExtensionConfig(name="envoy.bootstrap.internal_listener", typed_config=Any.pack(InternalListener()))
    )
    assert bootstrap.static_resources is not None
    bootstrap.static_resources.listeners.append(_listener(f"%FILE_CONTENT({path}:{folder})%"))
    bootstrap.static_resources.clusters.append(_cluster(cluster))


def _listener(content: str) -> Listener:
    body = SubstitutionFormatString(
        text_format_source=DataSource(inline_string=content),
        content_type="application/json",
        formatters=[TypedExtensionConfig(name="envoy.formatter.file_content", typed_config=Any.pack(FileContent()))],
    )
    answer = Route(match=RouteMatch(prefix="/"), direct_response=DirectResponseAction(status=200, body_format=body))
    manager = HttpConnectionManager(
        stat_prefix="jwks",
        route_config=RouteConfiguration(
            name="jwks", virtual_hosts=[VirtualHost(name="jwks", domains=["*"], routes=[answer])]
        ),
        http_filters=[HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router()))],
    )
    chain = FilterChain(
        filters=[Filter(name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager))]
    )
    return Listener(name=_LISTENER, internal_listener=ListenerInternalListenerConfig(), filter_chains=[chain])


def _cluster(name: str) -> Cluster:
    inside = Address(envoy_internal_address=EnvoyInternalAddress(server_listener_name=_LISTENER))
    endpoint = LbEndpoint(endpoint=Endpoint(address=inside))
    return Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        load_assignment=ClusterLoadAssignment(
            cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
        ),
    )
