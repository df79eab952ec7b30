"""Whatever comes: the process goes on, nobody is let in by garbage, and nothing that is no amount is reserved."""

from __future__ import annotations

import math
from typing import Any

import grpc
from google.protobuf import struct_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from darkroom.ratelimiter.v1 import ext_authz_pb2 as authz
from darkroom.ratelimiter.v1 import limiter_service_pb2 as pb
from libs.clients.limiter import Reservation
from libs.ids import JobId, TenantId
from services.ratelimiter.keys import form as keys
from services.ratelimiter.tiers.policy import TIERS

CHECK = "/envoy.service.auth.v3.Authorization/Check"
RESERVE = "/darkroom.ratelimiter.v1.LimiterService/Reserve"
METADATA = "envoy.filters.http.jwt_authn"
REFUSED = (401, 429)  # the second after ten wrong ones a minute from one address
_BOUNDED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

texts = st.text(max_size=80)
near_keys = st.builds(
    lambda secret, cut, more: secret[:cut] + more, st.just(keys.new_secret()), st.integers(0, 60), texts
)
near_tokens = st.lists(st.sampled_from(["eyJhbGciOiJub25lIn0", "e30", "", "=", "a b", "\u00e9"]), max_size=5).map(
    ".".join
)
credentials = st.one_of(
    texts,
    st.builds(
        "{} {}".format, st.sampled_from(["Bearer", "bearer", "BEARER", "Basic", ""]), near_keys | near_tokens | texts
    ),
)
claims = st.recursive(
    st.none() | st.booleans() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def value_of(claim: Any) -> struct_pb2.Value:
    """Return a claim as Envoy would send it; numbers that are none among them, which no JSON could hold."""
    if isinstance(claim, dict):
        return struct_pb2.Value(struct_value=struct_pb2.Struct(fields={k: value_of(v) for k, v in claim.items()}))
    if isinstance(claim, list):
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[value_of(each) for each in claim]))
    if isinstance(claim, bool):
        return struct_pb2.Value(bool_value=claim)
    if isinstance(claim, float):
        return struct_pb2.Value(number_value=claim)
    return struct_pb2.Value(string_value=claim) if isinstance(claim, str) else struct_pb2.Value(null_value=0)  # type: ignore[arg-type]


def question(headers: dict[str, str], path: str = "/v1/jobs", address: str = "203.0.113.7") -> authz.CheckRequest:
    asked = authz.CheckRequest()
    asked.attributes.source.address.socket_address.address = address
    asked.attributes.request.http.method, asked.attributes.request.http.path = "POST", path
    asked.attributes.request.http.headers.update(headers)
    return asked


async def answered(service: Any, method: str, request: bytes) -> tuple[grpc.StatusCode, bytes]:
    """Return the status of a call and its answer."""
    try:
        return grpc.StatusCode.OK, await service.channel.unary_unary(method)(request, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code(), b""


async def check(service: Any, asked: authz.CheckRequest) -> authz.CheckResponse:
    code, answer = await answered(service, CHECK, asked.SerializeToString())
    assert code is grpc.StatusCode.OK
    return authz.CheckResponse.FromString(answer)


def welcomed(answer: authz.CheckResponse) -> dict[str, str]:
    return {option.header.key: option.header.value for option in answer.ok_response.headers}


@_BOUNDED
@given(authorization=credentials.filter(bool), path=texts, address=texts, cookie=texts)
async def test_no_credential_that_is_none_lets_anybody_in(
    service, authorization: str, path: str, address: str, cookie: str
):
    answer = await check(service, question({"authorization": authorization, "cookie": cookie}, path, address))
    assert answer.WhichOneof("answer") == "denied_response"
    assert answer.status.code != grpc.StatusCode.OK.value[0]
    assert answer.denied_response.status.code in REFUSED


@_BOUNDED
@given(headers=st.dictionaries(texts.filter(lambda name: name != "authorization"), texts, max_size=4), address=texts)
async def test_without_a_credential_everybody_is_anonymous_whatever_else_they_say(
    service, headers: dict[str, str], address: str
):
    answer = await check(service, question(headers, address=address))
    who = welcomed(answer)
    assert who["x-darkroom-tier"] == "anonymous"
    assert who["x-darkroom-tenant"].startswith("anon:")
    assert "x-darkroom-key-id" not in who


@_BOUNDED
@given(told=st.dictionaries(st.sampled_from(["tenant", "tier", "scope", "sub", "x"]), claims, max_size=5))
async def test_claims_of_any_shape_name_a_tenant_that_is_one_or_are_refused(service, told: dict[str, Any]):
    asked = question({})
    asked.attributes.metadata_context.filter_metadata[METADATA].fields["claims"].CopyFrom(value_of(told))
    answer = await check(service, asked)
    if answer.WhichOneof("answer") == "denied_response":
        assert answer.denied_response.status.code in REFUSED
        return
    for name, value in welcomed(answer).items():
        assert value.isascii(), name
        assert value.isprintable(), name
    named = told["tenant"] if isinstance(told["tenant"], list) else [told["tenant"]]
    assert [welcomed(answer)["x-darkroom-tenant"]] == [text for text in named if isinstance(text, str)]
    assert welcomed(answer)["x-darkroom-tier"] == "free"  # no tier may be given unless the settings say so


@_BOUNDED
@given(noise=st.binary(max_size=200))
async def test_bytes_that_are_no_message_stop_nothing(service, noise: bytes):
    for method in (CHECK, RESERVE):
        await answered(service, method, noise)
    assert welcomed(await check(service, question({})))["x-darkroom-tier"] == "anonymous"


@_BOUNDED
@given(
    reservation_id=texts,
    tenant_id=texts | st.just("acme"),
    tier=st.sampled_from(TIERS) | texts,
    units=st.floats() | st.floats(0, 2000),
    images=st.integers(0, 2**32 - 1) | st.integers(0, 4),
    pixels=st.integers(0, 2**64 - 1),
    steps=st.integers(0, 2**32 - 1),
    key_id=texts,
    address=texts,
)
async def test_a_reservation_of_any_shape_is_decided_or_named_invalid(service, **given_fields: Any):
    code, answer = await answered(service, RESERVE, pb.ReserveRequest(**given_fields).SerializeToString())
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
    units = given_fields["units"]
    if code is grpc.StatusCode.OK:
        decision = pb.ReserveResponse.FromString(answer)
        assert math.isfinite(units)
        assert units >= 0
        assert math.isfinite(decision.available_units)
        assert decision.HasField("denial") or units <= 1000
    peeked = await service.limiter.peek(Reservation(JobId("any"), TenantId("acme"), "pro", 0.0, 0))
    assert math.isfinite(peeked.available_units)
    assert 0 <= peeked.available_units <= 1000
