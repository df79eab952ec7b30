"""Envoy's question and the answer, as bytes on a real listener."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from types import SimpleNamespace

import grpc
import pytest
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    SocketAddress,
)
from envoy_data_plane.envoy.service.auth.v3 import (
    AttributeContext,
    AttributeContextHttpRequest,
    AttributeContextPeer,
    AttributeContextRequest,
    CheckRequest,
    CheckResponse,
)
from google.rpc import status_pb2
from grpc_status import rpc_status

from libs import secret_files
from libs.clients.limiter import Reservation
from libs.errors import Unauthenticated
from libs.ids import JobId, TenantId
from libs.rpc import status
from services.ratelimiter.keys import form as keys
from services.ratelimiter.settings import Settings
from services.ratelimiter.strangers.pseudonyms import Pseudonyms

METHOD = "/envoy.service.auth.v3.Authorization/Check"
LIMIT_HEADERS = {
    *(f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "cost")),
    *(f"x-ratelimit-{what}" for what in ("limit", "remaining", "reset")),
    "ratelimit",
    "ratelimit-policy",
}


async def check(service, headers: dict[str, str], path: str = "/v1/jobs", address: str = "203.0.113.7"):
    http = AttributeContextHttpRequest(method="POST", path=path, headers=headers)
    source = AttributeContextPeer(address=Address(socket_address=SocketAddress(address=address, port_value=4711)))
    attributes = AttributeContext(source=source, request=AttributeContextRequest(http=http))
    call = service.channel.unary_unary(METHOD)  # no codec: bytes in, bytes out
    return CheckResponse.parse(await call(bytes(CheckRequest(attributes=attributes)), timeout=5))


def plain(options: list[HeaderValueOption]) -> dict[str, str]:
    return {option.header.key: option.header.value for option in options if option.header}


def actions(options: list[HeaderValueOption]) -> set[HeaderValueOptionHeaderAppendAction]:
    return {option.append_action for option in options}


@pytest.fixture
def address_of(settings: Settings) -> Callable[[str], str]:
    """Return what stands for an address in this deployment."""
    return Pseudonyms(secret_files.read_token(settings.secrets_folder, secret_files.ADDRESS_SECRET)).of


async def test_a_key_sets_the_trusted_headers_and_is_taken_away(service):
    made = await service.admin.create_key(TenantId("acme"), "pro", "laptop")
    outside = {"x-darkroom-tenant": "somebody", "x-darkroom-tier": "enterprise", "x-darkroom-key-id": "key_x"}
    answer = await check(service, {"authorization": f"Bearer {made.secret}", **outside})
    assert answer.status.code == 0
    welcome = answer.ok_response
    assert plain(welcome.headers) == {
        "x-darkroom-tenant": "acme",
        "x-darkroom-tier": "pro",
        "x-darkroom-key-id": made.key.id,
        "x-darkroom-scopes": "jobs:write jobs:read models:read usage:read webhooks:write",
    }
    assert actions(welcome.headers) == {HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD}
    replaced_by_nothing = ["x-darkroom-ends", "x-darkroom-address"]
    assert welcome.headers_to_remove == ["authorization", "cookie", "x-darkroom-client", *replaced_by_nothing]
    assert set(plain(welcome.response_headers_to_add)) == LIMIT_HEADERS
    assert actions(welcome.response_headers_to_add) == {HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT}


async def test_the_end_of_a_key_goes_along_to_the_moment(service):
    made = await service.admin.create_key(TenantId("acme"), "pro", "", lifetime_s=1 / 3)
    answer = await check(service, {"authorization": f"Bearer {made.secret}", "x-darkroom-ends": "9e9"})
    assert made.key.expires_s is not None
    assert abs(float(plain(answer.ok_response.headers)["x-darkroom-ends"]) - made.key.expires_s) < 0.001


async def test_without_a_key_the_address_is_the_tenant_and_no_key_id_gets_through(service, address_of):
    answer = await check(service, {"x-darkroom-key-id": "key_forged"})
    assert plain(answer.ok_response.headers) == {
        "x-darkroom-tenant": f"anon:{address_of('203.0.113.7')}",
        "x-darkroom-tier": "anonymous",
        "x-darkroom-address": address_of("203.0.113.7"),
        "x-darkroom-scopes": "jobs:write jobs:read models:read usage:read",
    }
    assert "x-darkroom-key-id" in answer.ok_response.headers_to_remove


async def test_behind_a_proxy_the_address_is_the_one_that_envoy_believes_in(service, address_of):
    answer = await check(service, {"x-darkroom-client": "198.51.100.9"})
    assert plain(answer.ok_response.headers)["x-darkroom-address"] == address_of("198.51.100.9")


async def test_the_cookie_of_the_first_answer_makes_a_tenant_of_its_own(service, address_of):
    answer = await check(service, {})
    told = plain(answer.ok_response.response_headers_to_add)["set-cookie"]
    again = await check(service, {"cookie": f"theme=dark; {told.partition(';')[0]}"})
    tenant = plain(again.ok_response.headers)["x-darkroom-tenant"]
    assert tenant.startswith("anon:")
    assert tenant != f"anon:{address_of('203.0.113.7')}"
    assert plain(again.ok_response.headers)["x-darkroom-address"] == address_of("203.0.113.7")
    assert "set-cookie" not in plain(again.ok_response.response_headers_to_add)
    assert "cookie" in again.ok_response.headers_to_remove


async def test_whoever_has_a_key_gets_no_cookie_and_no_address(service):
    made = await service.admin.create_key(TenantId("acme"), "pro", "laptop")
    answer = await check(service, {"authorization": f"Bearer {made.secret}"})
    assert "set-cookie" not in plain(answer.ok_response.response_headers_to_add)
    assert "x-darkroom-address" not in plain(answer.ok_response.headers)


async def test_the_headers_tell_what_was_reserved_and_asking_costs_nothing(service, address_of):
    stranger = TenantId(f"anon:{address_of('203.0.113.7')}")
    await service.limiter.reserve(Reservation(JobId("job_1"), stranger, "anonymous", 100, 1))
    for _ in range(10):
        answer = await check(service, {})
    told = plain(answer.ok_response.response_headers_to_add)
    assert (told["x-ratelimit-remaining-requests"], told["x-ratelimit-remaining-cost"]) == ("4", "900")
    other = await check(service, {}, address="203.0.113.8")
    assert plain(other.ok_response.response_headers_to_add)["x-ratelimit-remaining-requests"] == "5"


async def test_a_key_in_the_url_is_refused_even_beside_a_good_one(service):
    made = await service.admin.create_key(TenantId("acme"), "pro", "")
    for headers in ({}, {"authorization": f"Bearer {made.secret}"}):
        answer = await check(service, headers, path=f"/v1/jobs?page_token={made.secret}")
        assert answer.denied_response.status.code == 401
        assert json.loads(answer.denied_response.body)["details"][0]["reason"] == "KEY_IN_URL"
        assert made.secret not in answer.denied_response.body


async def test_the_scopes_of_a_key_travel(service):
    made = await service.admin.create_key(TenantId("acme"), "pro", "", ["models:read", "jobs:read"])
    answer = await check(service, {"authorization": f"Bearer {made.secret}"})
    assert plain(answer.ok_response.headers)["x-darkroom-scopes"] == "jobs:read models:read"


async def test_an_unknown_key_is_401_with_the_flat_json_and_the_limits(service):
    answer = await check(service, {"authorization": f"Bearer {keys.new_secret()}", "content-type": "application/json"})
    assert answer.status.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
    refused = answer.denied_response
    assert refused.status.code == 401
    headers = plain(refused.headers)
    assert headers["content-type"] == "application/json"
    assert set(headers) >= LIMIT_HEADERS
    assert headers["x-ratelimit-limit-requests"] == "60"
    body = json.loads(refused.body)
    assert body.pop("message").startswith("This API key is not known here.")
    assert body == {
        "code": 16,
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "KEY_INVALID",
                "domain": "darkroom",
                "metadata": {},
            }
        ],
    }


async def test_a_withdrawn_key_is_refused_at_once(service):
    made = await service.admin.create_key(TenantId("acme"), "pro", "")
    headers = {"authorization": f"Bearer {made.secret}"}
    assert (await check(service, headers)).ok_response is not None
    await service.admin.revoke_key(made.key.id)
    answer = await check(service, headers)
    assert answer.denied_response is not None
    assert "withdrawn" in answer.denied_response.body
    assert json.loads(answer.denied_response.body)["details"][0]["reason"] == "KEY_REVOKED"


async def test_a_withdrawal_on_one_replica_holds_on_the_other_within_five_seconds(start, clock):
    async with start() as one, start() as other:
        made = await one.admin.create_key(TenantId("acme"), "pro", "")
        headers = {"authorization": f"Bearer {made.secret}"}
        assert (await check(other, headers)).ok_response is not None
        await one.admin.revoke_key(made.key.id)
        assert (await check(one, headers)).denied_response.status.code == 401
        await clock.advance(5)
        assert (await check(other, headers)).denied_response.status.code == 401


async def test_a_replaced_key_goes_on_for_its_overlap_and_the_new_one_works_at_once(service, clock):
    old = await service.admin.create_key(TenantId("acme"), "pro", "site", ["jobs:read"])
    new = await service.admin.rotate_key(old.key.id, 3600)
    assert (new.replaced.replaced_by, new.replaced.expires_s) == (new.key.id, clock.now() + 3600)
    assert (new.key.tenant_id, new.key.name, new.key.scopes, new.key.expires_s) == (
        "acme",
        "site",
        ("jobs:read",),
        None,
    )
    for secret in (old.secret, new.secret):
        assert (await check(service, {"authorization": f"Bearer {secret}"})).ok_response is not None
    await clock.advance(3600)
    refused = await check(service, {"authorization": f"Bearer {old.secret}"})
    assert json.loads(refused.denied_response.body)["details"][0]["reason"] == "KEY_EXPIRED"
    assert (await check(service, {"authorization": f"Bearer {new.secret}"})).ok_response is not None


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc-web+proto"])
async def test_a_grpc_caller_reads_the_reason_in_the_details(service, content_type: str):
    answer = await check(service, {"authorization": "Bearer nonsense", "content-type": content_type})
    refused = answer.denied_response
    headers = plain(refused.headers)
    assert "content-type" not in headers  # Envoy answers in the caller's own protocol
    assert not refused.body.startswith("{")
    details = decoded(headers["grpc-status-details-bin"])
    error = status.from_status(details)
    assert isinstance(error, Unauthenticated)
    assert (error.reason, error.message) == ("KEY_INVALID", refused.body)


def decoded(value: str) -> status_pb2.Status:
    """Read the header as gRPC's own library does: base64 with or without padding, then `rpc_status`."""
    raw = base64.b64decode(value + "=" * (-len(value) % 4))
    message = status_pb2.Status.FromString(raw)
    code = grpc.StatusCode.UNAUTHENTICATED
    call = SimpleNamespace(
        trailing_metadata=lambda: (("grpc-status-details-bin", raw),),
        code=lambda: code,
        details=lambda: message.message,
    )
    return rpc_status.from_call(call)


async def test_the_last_use_of_a_key_is_written(service, clock):
    made = await service.admin.create_key(TenantId("acme"), "pro", "")
    await check(service, {"authorization": f"Bearer {made.secret}"})
    await clock.advance(11)
    async with asyncio.timeout(10):
        while (await service.admin.list_keys())[0].last_used_s is None:
            await clock.settle()
    assert (await service.admin.list_keys())[0].last_used_s == clock.now() - 11


async def test_a_bare_question_is_answered_too(service):
    call = service.channel.unary_unary(METHOD)
    answer = CheckResponse.parse(await call(b"", timeout=5))
    assert plain(answer.ok_response.headers)["x-darkroom-tenant"] == "anon:unknown"
