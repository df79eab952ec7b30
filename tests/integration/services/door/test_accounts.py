"""Signing up and looking after one's keys, over REST and gRPC through the real Envoy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import httpx
import pytest

from darkroom.v1 import account_service_pb2 as api
from darkroom.v1 import account_service_pb2_grpc as api_grpc
from libs import scopes
from libs.ids import TenantId
from tests.integration.services.door.conftest import Doorway

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def somebody_at(door: Doorway, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client that calls from an address of this machine."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(base_url=f"http://{door.envoy.address}", transport=transport, timeout=30) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def reason(answer: httpx.Response) -> str:
    return str(answer.json()["details"][0]["reason"])


async def test_an_account_is_made_at_once_and_its_key_works(door: Doorway):
    async with somebody_at(door, "127.0.0.21") as client:
        made = await client.post("/v1/accounts", json={"name": "mine"})
        assert made.status_code == 201
        assert made.headers["cache-control"] == "no-store"
        told = made.json()
        assert (told["tier"], told["key"]["name"], told["key"]["scopes"]) == ("free", "mine", list(scopes.NAMES))
        await door.call(told["secret"])
        assert door.who() == (told["account"], "free", scopes.text(scopes.EVERY))
        again = await client.post("/v1/accounts", json={}, headers=bearer(told["secret"]))
        assert (again.status_code, reason(again)) == (400, "INVALID_REQUEST")


async def test_an_address_gets_three_accounts_a_day_and_another_is_not_touched(door: Doorway):
    async with somebody_at(door, "127.0.0.22") as client:
        assert [(await client.post("/v1/accounts", json={})).status_code for _ in range(3)] == [201] * 3
        refused = await client.post("/v1/accounts", json={}, headers={"x-forwarded-for": "203.0.113.5"})
        assert (refused.status_code, reason(refused)) == (429, "SIGN_UPS_EXHAUSTED")
        assert int(refused.headers["retry-after"]) > 0
    async with somebody_at(door, "127.0.0.23") as client:
        assert (await client.post("/v1/accounts", json={})).status_code == 201


async def test_a_body_is_read_strictly(door: Doorway):
    async with somebody_at(door, "127.0.0.24") as client:
        wrong = await client.post("/v1/accounts", json={"nmae": "x", "invite": 7})
        assert wrong.status_code == 400
        told = {each["field"]: each["description"] for each in wrong.json()["details"][1]["field_violations"]}
        assert told == {"nmae": "is not a field; did you mean name?", "invite": "must be a text"}
        assert (await client.post("/v1/accounts", content=b"{")).json()["details"][0]["reason"] == "MALFORMED_JSON"


async def test_keys_are_made_listed_replaced_and_withdrawn_over_rest(door: Doorway):
    tenant = TenantId("key-keeper")
    first = await door.admin.create_key(tenant, "pro", "first", list(scopes.NAMES))
    headers, client = bearer(first.secret), door.client
    made = await client.post(
        "/v1/keys", json={"name": "site", "scopes": ["jobs:read"], "lifetime_s": 60}, headers=headers
    )
    assert made.status_code == 201
    key_id, secret = made.json()["key"]["id"], made.json()["secret"]
    assert (await door.call(secret)).status_code == 200
    listed = (await client.get("/v1/keys", headers=headers)).json()["keys"]
    assert [key["id"] for key in listed] == [first.key.id, key_id]
    assert secret not in str(listed)
    page = (await client.get("/v1/keys?page_size=1", headers=headers)).json()
    assert [key["id"] for key in page["keys"]] == [first.key.id]
    page = (await client.get(f"/v1/keys?page_size=1&page_token={page['next_page_token']}", headers=headers)).json()
    assert ([key["id"] for key in page["keys"]], page["next_page_token"]) == ([key_id], "")
    rotated = await client.post(f"/v1/keys/{key_id}:rotate", headers=headers)
    assert rotated.status_code == 201
    assert rotated.json()["replaced"]["replaced_by"] == rotated.json()["key"]["id"]
    assert (await door.call(secret)).status_code == (await door.call(rotated.json()["secret"])).status_code == 200
    ended = await client.post(f"/v1/keys/{rotated.json()['key']['id']}:rotate", json={"overlap_s": 0}, headers=headers)
    assert reason(await door.call(rotated.json()["secret"])) == "KEY_EXPIRED"
    gone = await client.post(f"/v1/keys/{ended.json()['key']['id']}:revoke", headers=headers)
    assert gone.json()["revoke_time"]
    assert reason(await door.call(ended.json()["secret"])) == "KEY_REVOKED"
    for shown in (first.secret, secret, rotated.json()["secret"]):
        assert shown[12:] not in door.envoy.log


async def test_a_usual_key_makes_no_keys_and_no_one_reaches_anothers(door: Doorway):
    theirs = await door.admin.create_key(TenantId("somebody-else"), "pro", "")
    usual = await door.admin.create_key(TenantId("key-user"), "pro", "")
    for method, path in (("POST", "/v1/keys"), ("GET", "/v1/keys"), ("POST", f"/v1/keys/{usual.key.id}:revoke")):
        answer = await door.client.request(method, path, headers=bearer(usual.secret), content=b"")
        assert (answer.status_code, reason(answer)) == (403, "SCOPE_MISSING")
    keeper = await door.admin.create_key(TenantId("key-user"), "pro", "", ["keys:write"])
    for verb in ("rotate", "revoke"):
        answer = await door.client.post(f"/v1/keys/{theirs.key.id}:{verb}", headers=bearer(keeper.secret))
        assert (answer.status_code, reason(answer)) == (404, "KEY_NOT_FOUND")
    more = await door.client.post("/v1/keys", json={"scopes": ["jobs:write"]}, headers=bearer(keeper.secret))
    assert (more.status_code, reason(more)) == (403, "SCOPE_MISSING")


async def test_what_ends_soon_makes_nothing_that_lasts(door: Doorway):
    brief = await door.admin.create_key(TenantId("brief-keeper"), "pro", "", list(scopes.NAMES), 3600)
    assert brief.key.expires_s is not None
    spoofed = {**bearer(brief.secret), "x-darkroom-ends": "9999999999.0"}
    made = (await door.client.post("/v1/keys", json={}, headers=spoofed)).json()["key"]
    end = datetime.fromtimestamp(brief.key.expires_s, UTC)
    assert abs(datetime.fromisoformat(made["expire_time"]) - end) < timedelta(milliseconds=2)
    token = door.issuer.token(tenant="brief-token", scope="keys:write jobs:read")
    for path in ("/v1/keys", "/v1/keys/{key_id}:rotate"):
        answer = await door.client.post(path.format(key_id=made["id"]), json={}, headers=bearer(token))
        made = answer.json()["key"]
        assert datetime.fromisoformat(made["expire_time"]) < datetime.now(UTC) + timedelta(hours=2)


async def test_the_same_over_grpc(door: Doorway):
    made = await door.admin.create_key(TenantId("native-keeper"), "pro", "", list(scopes.NAMES))
    metadata = (("authorization", f"Bearer {made.secret}"),)
    async with grpc.aio.insecure_channel(door.envoy.address) as channel:
        keys: Any = api_grpc.KeyServiceStub(channel)
        new = await keys.CreateKey(api.CreateKeyRequest(name="n"), metadata=metadata, timeout=10)
        assert new.secret.startswith(new.key.prefix)
        rotated = await keys.RotateKey(api.RotateKeyRequest(id=new.key.id, overlap_s=60), metadata=metadata, timeout=10)
        assert rotated.replaced.id == new.key.id
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await keys.ListKeys(api.ListKeysRequest(), timeout=10)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_the_gateway_knows_whether_a_stranger_could_sign_up(door: Doorway):
    await door.call()
    assert door.visited.headers is not None
    assert door.visited.headers["x-darkroom-sign-up"] == "on"
    made = await door.admin.create_key(TenantId("has-a-key"), "pro", "")
    await door.call(made.secret, x_darkroom_sign_up="on")
    assert door.visited.headers is not None
    assert "x-darkroom-sign-up" not in door.visited.headers
