"""The HTTP filters in their order; the answer passes them backwards.

cors → strip outside x-darkroom-* → livez → status (Lua) → bursts of an address → body limit → tokens → ext_authz,
strict or lenient by route → bursts of a key → grpc_web → transcoder → router

Lua stands before all that refuses: it leaves a gRPC caller its grpc-status only where it has seen the request.
"""

from __future__ import annotations

from collections.abc import Mapping

from betterproto2 import Message
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Rule
from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutationRemoveOnMatch
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
)
from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer, BufferPerRoute
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import Cors
from envoy_data_plane.envoy.extensions.filters.http.grpc_json_transcoder.v3 import (
    GrpcJsonTranscoder,
    GrpcJsonTranscoderPrintOptions,
    GrpcJsonTranscoderRequestValidationOptions,
)
from envoy_data_plane.envoy.extensions.filters.http.grpc_web.v3 import GrpcWeb
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation, Mutations
from envoy_data_plane.envoy.extensions.filters.http.health_check.v3 import HealthCheck
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import JwtAuthentication
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2

from darkroom.v1 import (
    account_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    site_service_pb2,
    upload_service_pb2,
    webhook_service_pb2,
)
from services.gateway.envoy import authorization, bursts
from services.gateway.envoy.bursts import Bursts

MAX_BODY_BYTES = 256 * 1024
BUFFER = "envoy.filters.http.buffer"
KEY_BURSTS = "darkroom.local_ratelimit.keys"
CLIENT = "x-darkroom-client"  # the address that is trusted, for the rate limiter
_REPLACE = HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
_PUBLIC = (
    account_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    site_service_pb2,
    upload_service_pb2,
    webhook_service_pb2,
)
_MAX_ANSWER_BYTES = 8 * 1024 * 1024  # a page of 200 jobs with the longest prompts in the widest characters

# The transcoder knows a fixed map of statuses and drops trailers; a servicer says `x-http-code: 202` in its initial
# metadata instead. Native gRPC callers must not see it, and the browser must not see gRPC's own headers.
STATUS_LUA = """
function envoy_on_request(handle)
  local kind = handle:headers():get("content-type") or ""
  if kind:sub(1, 16) == "application/grpc" then
    handle:streamInfo():dynamicMetadata():set("darkroom", "native", true)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local code = headers:get("x-http-code")
  headers:remove("x-http-code")
  local data = handle:streamInfo():dynamicMetadata():get("darkroom")
  if data ~= nil and data["native"] then return end
  if code ~= nil then headers:replace(":status", code) end
  for _, name in ipairs({"grpc-status", "grpc-message", "grpc-accept-encoding", "grpc-encoding",
                         "grpc-status-details-bin", "x-envoy-upstream-service-time"}) do
    headers:remove(name)
  end
end
"""


def chain(ratelimiter: str, limits: Bursts | None, jwt: JwtAuthentication | None) -> list[HttpFilter]:
    """Return the filters in order; `ratelimiter` is the cluster that knows the callers."""
    lua = Lua(default_source_code=DataSource(inline_string=STATUS_LUA))
    limited = [_named("local_ratelimit", bursts.of_addresses(limits))] if limits else []
    known = [HttpFilter(name=KEY_BURSTS, typed_config=Any.pack(bursts.of_keys(limits)))] if limits else []
    return [
        _named("cors", Cors()),
        _named("header_mutation", _strip_outside()),
        _named("health_check", _livez()),
        _named("lua", lua),
        *limited,
        _named("buffer", Buffer(max_request_bytes=MAX_BODY_BYTES)),
        *([_named("jwt_authn", jwt)] if jwt else []),
        HttpFilter(name=authorization.STRICT, typed_config=Any.pack(authorization.check(ratelimiter, lenient=False))),
        HttpFilter(name=authorization.LENIENT, typed_config=Any.pack(authorization.check(ratelimiter, lenient=True))),
        *known,
        _named("grpc_web", GrpcWeb()),
        _named("grpc_json_transcoder", transcoder()),
        _named("router", Router()),
    ]


def unbuffered() -> Mapping[str, Any]:
    """Return the part of a route where a body passes as it comes: whoever reads it counts its bytes."""
    return {BUFFER: Any.pack(BufferPerRoute(disabled=True))}


def transcoder() -> GrpcJsonTranscoder:
    """Return the filter that serves REST from the annotations of the public protos."""
    services = [name for m in _PUBLIC for name in (s.full_name for s in m.DESCRIPTOR.services_by_name.values())]
    return GrpcJsonTranscoder(
        proto_descriptor_bin=_descriptors(),
        services=sorted(services),
        print_options=GrpcJsonTranscoderPrintOptions(
            preserve_proto_field_names=True, always_print_primitive_fields=True
        ),
        convert_grpc_status=True,
        request_validation_options=GrpcJsonTranscoderRequestValidationOptions(
            reject_unknown_method=True, reject_unknown_query_parameters=True
        ),
        max_request_body_size=MAX_BODY_BYTES,
        max_response_body_size=_MAX_ANSWER_BYTES,
    )


def _descriptors() -> bytes:
    # error_details must be in the set, or an error body with details comes out empty.
    files, pool = descriptor_pb2.FileDescriptorSet(), descriptor_pool.Default()
    wanted, seen = [m.DESCRIPTOR.name for m in _PUBLIC], set()
    wanted.append(error_details_pb2.DESCRIPTOR.name)

    def add(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        found = pool.FindFileByName(name)
        for needed in found.dependencies:
            add(needed.name)
        found.CopyToProto(files.file.add())

    for name in wanted:
        add(name)
    return files.SerializeToString(deterministic=True)


def _strip_outside() -> HeaderMutation:
    # ext_authz is told of the connection's peer, which behind a proxy is the proxy.
    client = HeaderValue(key=CLIENT, value="%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")
    rules = [
        Rule(
            remove_on_match=HeaderMutationRemoveOnMatch(
                key_matcher=StringMatcher(prefix="x-darkroom-", ignore_case=True)
            )
        ),
        Rule(append=HeaderValueOption(header=client, append_action=_REPLACE)),
    ]
    return HeaderMutation(mutations=Mutations(request_mutations=rules))


def _livez() -> HealthCheck:
    path = HeaderMatcher(name=":path", string_match=StringMatcher(exact="/livez"))
    return HealthCheck(pass_through_mode=False, headers=[path])


def _named(name: str, config: Message) -> HttpFilter:
    return HttpFilter(name=f"envoy.filters.http.{name}", typed_config=Any.pack(config))
