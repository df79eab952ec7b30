"""Reading one's own limits, usage and events, over REST and gRPC through the real Envoy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import httpx
import pytest

from darkroom.v1 import account_service_pb2 as api
from darkroom.v1 import account_service_pb2_grpc as api_grpc
from libs.clients.limiter import Reservation, Settlement
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.events import TenantEvent
from services.ratelimiter.tenants.sql_events import SqlTenantEvents
from tests.integration.services.door.conftest import Doorway
from tests.integration.services.door.test_accounts import bearer, reason, somebody_at

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATHS = ("/v1/limits", "/v1/usage", "/v1/events")


async def settle(door: Doorway, name: str, tenant: str, key: str, model: str = "tiny@1") -> None:
    numbers: dict[str, Any] = {"reserved_units": 100.0, "actual_units": 80.0, "charged_units": 60.0, "gpu_ms": 90.5}
    who = (JobId(name), TenantId(tenant), "pro", KeyId(key))
    assert await door.limiter.settle(Settlement(*who, images=2, model_version=model, outcome="succeeded", **numbers))


async def read(door: Doorway, path: str, secret: str, **query: Any) -> Any:
    answer = await door.client.get(path, headers=bearer(secret), params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def dimensions(told: Any) -> dict[str, Any]:
    return {f"{limit['account']}.{limit['dimension']}": limit for limit in told["limits"]}


async def test_a_key_reads_the_limits_that_the_headers_tell(door: Doorway):
    made = await door.admin.create_key(TenantId("limit-reader"), "pro", "")
    await door.limiter.reserve(Reservation(JobId("job_limits"), made.key.tenant_id, "pro", 400.0, images=1))
    answer = await door.client.get("/v1/limits", headers=bearer(made.secret))
    told = answer.json()
    assert (told["account"], told["tier"], "max_pixels" in told) == ("limit-reader", "pro", False)
    requests, cost = dimensions(told)["tenant.requests"], dimensions(told)["tenant.cost"]
    assert (requests["limit"], requests["per_minute"]) == (20, 400)
    assert (cost["limit"], cost["unit"]) == (1000, "units")
    for limit in (requests, cost):
        assert limit["used"] + limit["remaining"] == limit["limit"]
    reset = datetime.fromisoformat(cost["reset_time"]) - datetime.now(UTC)
    assert reset <= timedelta(seconds=24)
    # What drains between the door's look and this one is back for both.
    assert int(answer.headers["x-ratelimit-remaining-cost"]) <= cost["remaining"]
    again = await read(door, "/v1/limits", made.secret)
    assert dimensions(again)["tenant.requests"]["remaining"] >= requests["remaining"]  # reading is none of them


async def test_a_token_and_nobody_read_their_own(door: Doorway):
    told = await read(door, "/v1/limits", door.issuer.token(tenant="token-reader", tier="pro"))
    assert (told["account"], told["tier"]) == ("token-reader", "pro")
    async with somebody_at(door, "127.0.0.31") as client:
        answers = [await client.get(path, headers={"x-darkroom-tenant": "token-reader"}) for path in PATHS]
        assert [answer.status_code for answer in answers] == [200] * 3
        limits, usage, events = (answer.json() for answer in answers)
        assert (limits["account"], limits["tier"]) == ("", "anonymous")
        assert {"tenant.daily_images", "address.address", "newcomers.address"} <= set(dimensions(limits))
        assert dimensions(limits)["address.address"]["limit"] == 150
        assert (usage["usage"], events["events"]) == ([], [])
        assert usage["by"] == ["day"]


async def test_usage_is_added_up_as_asked_and_nobody_elses_is_in_it(door: Doorway):
    made = await door.admin.create_key(TenantId("usage-reader"), "pro", "")
    mine, today = made.key.id, datetime.now(UTC).date().isoformat()
    for n, (key, model) in enumerate([(mine, "a@1"), (mine, "b@1"), ("key_second", "a@1")]):
        await settle(door, f"job_usage_{n}", "usage-reader", key, model)
    await settle(door, "job_usage_theirs", "usage-other", mine)
    (line,) = (await read(door, "/v1/usage", made.secret))["usage"]
    assert {name: line[name] for name in ("jobs", "succeeded", "failed", "images", "gpu_ms")} == {
        "jobs": 3,
        "succeeded": 3,
        "failed": 0,
        "images": 6,
        "gpu_ms": 271.5,
    }
    assert (line["measured_units"], line["charged_units"], line["money"]) == (240, 180, 0)
    assert line["day"] >= today
    parts = (await read(door, "/v1/usage", made.secret, by=["model", "key"]))["usage"]
    assert [(part["model"], part["key"], part["day"]) for part in parts] == sorted(
        [("a@1", mine, ""), ("a@1", "key_second", ""), ("b@1", mine, "")]
    )
    past = await read(door, "/v1/usage", made.secret, **{"from": "2023-11-01", "to": "2023-11-30", "by": "day,model"})
    assert (past["usage"], past["from_day"], past["to_day"], past["by"]) == (
        [],
        "2023-11-01",
        "2023-11-30",
        ["day", "model"],
    )


async def test_usage_comes_page_by_page(door: Doorway):
    made = await door.admin.create_key(TenantId("page-reader"), "pro", "")
    for n in range(3):
        await settle(door, f"job_page_{n}", "page-reader", made.key.id, f"m{n}@1")
    first = await read(door, "/v1/usage", made.secret, by="model", page_size=2)
    token = first["next_page_token"]
    last = await read(door, "/v1/usage", made.secret, by="model", page_size=2, page_token=token)
    assert [line["model"] for page in (first, last) for line in page["usage"]] == ["m0@1", "m1@1", "m2@1"]
    assert last["next_page_token"] == ""
    other = await door.admin.create_key(TenantId("page-thief"), "pro", "")
    for secret, by in ((other.secret, "model"), (made.secret, "day")):
        query = {"by": by, "page_token": token}
        refused = await door.client.get("/v1/usage", headers=bearer(secret), params=query)
        assert (refused.status_code, reason(refused)) == (400, "PAGE_TOKEN_INVALID")


async def test_wrong_days_are_named_together(door: Doorway):
    made = await door.admin.create_key(TenantId("day-reader"), "pro", "")
    query = {"from": "yesterday", "to": "2023-02-30", "by": "tenant"}
    refused = await door.client.get("/v1/usage", headers=bearer(made.secret), params=query)
    assert (refused.status_code, reason(refused)) == (400, "INVALID_REQUEST")
    fields = [each["field"] for each in refused.json()["details"][1]["field_violations"]]
    assert fields == ["by", "from", "to"]
    unknown = await door.client.get("/v1/usage", headers=bearer(made.secret), params={"tenant": "acme"})
    assert unknown.status_code == 400


async def test_events_are_the_accounts_own_newest_first(door: Doorway):
    made = await door.admin.create_key(TenantId("event-reader"), "pro", "")
    begin = datetime.now(UTC).replace(microsecond=250_000) - timedelta(minutes=1)
    told = [
        TenantEvent(name, made.key.tenant_id, "usage_spike", f"of {name}", begin.timestamp() + n)
        for n, name in enumerate(("evt_a", "evt_b", "evt_c"))
    ]
    database = Database(door.database, deadline_s=10.0)
    await SqlTenantEvents(database).add(
        [*told, TenantEvent("evt_theirs", TenantId("event-other"), "usage_spike", "…", begin.timestamp())]
    )
    await database.close()
    first = await read(door, "/v1/events", made.secret, page_size=2)
    assert [event["id"] for event in first["events"]] == ["evt_c", "evt_b"]
    last = await read(door, "/v1/events", made.secret, page_size=2, page_token=first["next_page_token"])
    (event,) = last["events"]
    time = f"{begin:%Y-%m-%dT%H:%M:%S}.250Z"
    assert event == {"id": "evt_a", "kind": "usage_spike", "message": "of evt_a", "time": time}
    assert last["next_page_token"] == ""


async def test_without_the_scope_nothing_is_read(door: Doorway):
    made = await door.admin.create_key(TenantId("scope-reader"), "pro", "", ["jobs:write", "keys:write"])
    answers: list[httpx.Response] = [await door.client.get(path, headers=bearer(made.secret)) for path in PATHS]
    assert [(answer.status_code, reason(answer)) for answer in answers] == [(403, "SCOPE_MISSING")] * 3


async def test_the_same_over_grpc(door: Doorway):
    made = await door.admin.create_key(TenantId("native-reader"), "pro", "")
    await settle(door, "job_native", "native-reader", made.key.id)
    given = {"metadata": (("authorization", f"Bearer {made.secret}"),), "timeout": 10}
    async with grpc.aio.insecure_channel(door.envoy.address) as channel:
        account: Any = api_grpc.AccountServiceStub(channel)
        limits = await account.GetLimits(api.GetLimitsRequest(), **given)
        assert (limits.tier, limits.HasField("running_images")) == ("pro", False)
        usage = await account.GetUsage(api.GetUsageRequest(by=["key"]), **given)
        assert [(line.key, line.jobs) for line in usage.usage] == [(made.key.id, 1)]
        assert not (await account.ListEvents(api.ListEventsRequest(), **given)).events
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await account.GetUsage(api.GetUsageRequest(from_day="never"), **given)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
