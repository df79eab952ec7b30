"""Headers that only the door may set gain nothing when they come from outside, whatever the protocol."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest

from darkroom.v1 import generation_service_pb2 as api
from libs import scopes
from libs.ids import TenantId
from tests.integration.services.door.conftest import Doorway

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPOOFED = {
    "x-darkroom-tenant": "victim",
    "x-darkroom-tier": "enterprise",
    "x-darkroom-key-id": "key_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "x-darkroom-scopes": scopes.text(scopes.EVERY),
    "x-darkroom-address": "203.0.113.99",
    "x-darkroom-client": "203.0.113.99",
    "x-darkroom-abuse": "0",
    "x-darkroom-mesh-token": "guessed",
    "x-darkroom-operator-token": "guessed",
    "x-darkroom-new-one": "1",
    "x-forwarded-for": "203.0.113.99",
    "x-real-ip": "203.0.113.99",
    "x-envoy-external-address": "203.0.113.99",
    "x-http-code": "200",
}
_WEB = "/darkroom.v1.GenerationService/GetJob"


def told(door: Doorway) -> dict[str, str]:
    """Return the trusted headers that came to the gateway."""
    assert door.visited.headers is not None, "the call did not come so far"
    return {name: value for name, value in door.visited.headers.items() if name.startswith("x-darkroom-")}


async def rest(door: Doorway, bearer: str, headers: dict[str, str]) -> None:
    assert (await door.call(bearer, **headers)).status_code == 200


async def native(door: Doorway, bearer: str, headers: dict[str, str]) -> None:
    await door.native(bearer, **headers)


async def web(door: Doorway, bearer: str, headers: dict[str, str]) -> None:
    door.visited.headers = None
    door.client.cookies.clear()
    message = api.GetJobRequest(id="job_1").SerializeToString()
    given = {"content-type": "application/grpc-web+proto", **headers}
    if bearer:
        given["authorization"] = f"Bearer {bearer}"
    answer = await door.client.post(_WEB, content=b"\0" + len(message).to_bytes(4, "big") + message, headers=given)
    assert b"grpc-status:0" in answer.content


@pytest.fixture(params=[rest, native, web], ids=["rest", "grpc", "grpc-web"])
def way(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_stranger_stays_a_stranger(door: Doorway, way: Any):
    await way(door, "", {})
    honest = told(door)
    await way(door, "", SPOOFED)
    assert told(door) == honest
    assert honest["x-darkroom-tier"] == "anonymous"
    assert "x-darkroom-key-id" not in honest


async def test_a_key_stays_its_own_tenants(door: Doorway, way: Any):
    made = await door.admin.create_key(TenantId("honest"), "free", "", ["jobs:read"])
    await way(door, made.secret, {})
    honest = told(door)
    await way(door, made.secret, SPOOFED)
    assert told(door) == honest
    assert (honest["x-darkroom-tenant"], honest["x-darkroom-scopes"]) == ("honest", "jobs:read")


async def test_a_token_stays_what_its_issuer_said(door: Doorway, way: Any):
    token = door.issuer.token(tenant="honest-token", scope="jobs:read")
    await way(door, token, {})
    honest = told(door)
    await way(door, token, SPOOFED)
    assert told(door) == honest


async def test_a_scope_that_is_missing_is_not_given_by_a_header(door: Doorway):
    made = await door.admin.create_key(TenantId("honest"), "free", "", ["models:read"])
    answer = await door.call(made.secret, **SPOOFED)
    assert answer.status_code == 403
    assert answer.json()["details"][0]["reason"] == "SCOPE_MISSING"
    assert "jobs:read" in answer.json()["message"]
    assert answer.headers["x-ratelimit-limit-requests"] == "200"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await door.native(made.secret, **SPOOFED)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert door.visited.headers is None


@pytest.mark.parametrize("name", ["X-DARKROOM-TENANT", "X-Darkroom-Tenant", "x-darkroom-tenant"])
async def test_case_and_repetition_gain_nothing(door: Doorway, name: str):
    headers = [(name, "victim"), (name, "anon:1.2.3.4"), (name, "")]
    answer = await door.client.get("/v1/jobs/job_1", headers=httpx.Headers(headers))
    assert answer.status_code == 200
    assert told(door)["x-darkroom-tenant"].startswith("anon:")
    assert "victim" not in told(door).values()


@pytest.mark.parametrize(
    "path",
    [
        "/envoy.service.auth.v3.Authorization/Check",
        "/darkroom.ratelimiter.v1.AdminService/CreateKey",
        "/darkroom.ratelimiter.v1.LimiterService/Reserve",
        "/darkroom.v1.GenerationService/../../darkroom.ratelimiter.v1.AdminService/CreateKey",
    ],
)
async def test_what_is_inside_is_not_reached_from_outside(door: Doorway, path: str):
    headers = {**SPOOFED, "content-type": "application/grpc"}
    answer = await door.client.post(path, content=b"\0\0\0\0\0", headers=headers)
    assert answer.headers.get("grpc-status") == "12" or answer.status_code == 404
