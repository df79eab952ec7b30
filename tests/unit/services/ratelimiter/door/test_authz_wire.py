"""What Envoy says of a token, in the words of the domain."""

from __future__ import annotations

from google.protobuf import json_format

from darkroom.ratelimiter.v1 import ext_authz_pb2 as pb
from services.gateway.envoy import tokens
from services.ratelimiter.door.authz_wire import question_from_envoy

NOW = 1_800_000_000.0


def asked(**told: object) -> pb.CheckRequest:
    """Return Envoy's question about a call, with what it found out about a token."""
    request = pb.CheckRequest()
    request.attributes.request.http.path = "/v1/jobs"
    json_format.ParseDict(told, request.attributes.metadata_context.filter_metadata[tokens.METADATA])
    return request


def test_a_token_ends_when_envoy_takes_it_no_more() -> None:
    filters = tokens.authentication(tokens.Tokens("https://issuer.example", "darkroom", "/keys.json"), "keys")
    [provider] = filters.providers.values()
    question = question_from_envoy(asked(claims={"tenant": "acme", "exp": NOW}))
    assert question.token_ends_s == NOW + provider.clock_skew_seconds > NOW
    assert question.claims == {"tenant": ("acme",), "exp": ()}


def test_a_call_without_a_good_token_has_no_end_of_one() -> None:
    assert question_from_envoy(pb.CheckRequest()).token_ends_s is None
    question = question_from_envoy(asked(fault={"message": "Jwt is expired"}))
    assert (question.claims, question.fault, question.token_ends_s) == (None, "Jwt is expired", None)
