"""Looking after the addresses that events of an account are sent to, over REST and gRPC through the real Envoy."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest
from standardwebhooks import Webhook

from darkroom.v1 import webhook_service_pb2 as api
from darkroom.v1 import webhook_service_pb2_grpc as api_grpc
from libs.ids import TenantId
from services.ratelimiter.webhooks.endpoints import MOST_ENDPOINTS
from tests.integration.services.door.conftest import Doorway
from tests.integration.services.gateway.receiver import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATH = "/v1/webhookEndpoints"


async def bearer(door: Doorway, tenant: str, *allowed: str) -> dict[str, str]:
    made = await door.admin.create_key(TenantId(tenant), "pro", "", list(allowed))
    return {"authorization": f"Bearer {made.secret}"}


def reason(answer: httpx.Response) -> str:
    return str(answer.json()["details"][0]["reason"])


async def test_an_endpoint_is_made_tried_and_removed_and_its_secret_is_shown_once(door: Doorway):
    headers, client = await bearer(door, "told", "webhooks:write"), door.client
    async with Receiver().serving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/events"
        made = await client.post(PATH, json={"url": url, "events": ["usage_spike"]}, headers=headers)
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        endpoint, secret = made.json()["endpoint"], made.json()["secret"]
        listed = await client.get(PATH, headers=headers)
        assert listed.json()["endpoints"] == [endpoint]
        assert (endpoint["url"], endpoint["events"]) == (url, ["usage_spike"])
        tried = await client.post(f"{PATH}/{endpoint['id']}:test", headers=headers)
        assert tried.json() == {"delivered": True, "status": 200, "reason": ""}
        [post] = receiver.posts
        assert Webhook(secret).verify(post.body, post.headers)["type"] == "account.test"
    down = await client.post(f"{PATH}/{endpoint['id']}:test", headers=headers)
    assert down.json() == {"delivered": False, "status": 0, "reason": "unreachable"}
    assert (await client.get(f"{PATH}/{endpoint['id']}/deliveries", headers=headers)).json() == {"deliveries": []}
    assert (await client.delete(f"{PATH}/{endpoint['id']}", headers=headers)).status_code == 200
    assert (await client.get(PATH, headers=headers)).json() == {"endpoints": []}
    assert secret not in door.envoy.log


async def test_without_the_scope_nothing_is_done_and_nobody_reaches_anothers(door: Doorway):
    theirs, mine = (
        await bearer(door, "told-theirs", "webhooks:write"),
        await bearer(door, "told-mine", "webhooks:write"),
    )
    usual = await bearer(door, "told-theirs", "jobs:write")
    made = await door.client.post(PATH, json={"url": "https://hook.example/"}, headers=theirs)
    at = f"{PATH}/{made.json()['endpoint']['id']}"
    calls = (("GET", PATH), ("POST", PATH), ("DELETE", at), ("POST", f"{at}:test"), ("GET", f"{at}/deliveries"))
    for headers in (usual, {}):
        refused = [await door.client.request(method, path, headers=headers) for method, path in calls]
        assert {(answer.status_code, reason(answer)) for answer in refused} == {(403, "SCOPE_MISSING")}
    missing = [await door.client.request(method, path, headers=mine) for method, path in calls[2:]]
    assert {(answer.status_code, reason(answer)) for answer in missing} == {(404, "WEBHOOK_NOT_FOUND")}


async def test_mistakes_are_told_with_their_fields(door: Doorway):
    headers = await bearer(door, "told-wrong", "webhooks:write")
    wrong = await door.client.post(PATH, json={"url": "ftp://hook.example/", "events": ["completed"]}, headers=headers)
    assert (wrong.status_code, reason(wrong)) == (400, "INVALID_REQUEST")
    assert [each["field"] for each in wrong.json()["details"][1]["field_violations"]] == ["url", "events"]
    unknown = await door.client.post(PATH, json={"uri": "https://hook.example/"}, headers=headers)
    assert "did you mean url?" in unknown.json()["message"]


async def test_an_account_has_a_handful(door: Doorway):
    headers = await bearer(door, "told-much", "webhooks:write")
    for number in range(MOST_ENDPOINTS):
        made = await door.client.post(PATH, json={"url": f"https://hook.example/{number}"}, headers=headers)
        assert made.status_code == 201
    refused = await door.client.post(PATH, json={"url": "https://hook.example/more"}, headers=headers)
    assert (refused.status_code, reason(refused)) == (400, "PRECONDITION_FAILED")
    assert "Delete one first" in refused.json()["message"]


async def test_the_same_over_grpc(door: Doorway):
    metadata = tuple((await bearer(door, "told-native", "webhooks:write")).items())
    async with grpc.aio.insecure_channel(door.envoy.address) as channel:
        webhooks: Any = api_grpc.WebhookServiceStub(channel)
        wanted = api.CreateWebhookEndpointRequest(url="https://hook.example/")
        made = await webhooks.CreateWebhookEndpoint(wanted, metadata=metadata, timeout=10)
        assert made.secret.startswith("whsec_")
        listed = await webhooks.ListWebhookEndpoints(api.ListWebhookEndpointsRequest(), metadata=metadata, timeout=10)
        assert list(listed.endpoints) == [made.endpoint]
