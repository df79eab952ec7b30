"""Reserve, confirm, settle and keys over a real listener, across restarts."""

from __future__ import annotations

import asyncio
import math
import sqlite3

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import make_url

from libs.clients.limiter import LimiterClient, Reservation, Settlement
from libs.clients.limiter_admin import LimiterAdminClient
from libs.devstack.ports import free_port
from libs.errors import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unauthenticated,
    Unavailable,
)
from libs.ids import JobId, KeyId, TenantId
from libs.rpc.channel import open_channel
from libs.secret_files import MESH_TOKEN, read_token

TENANT = TenantId("acme")


def reservation(name: str = "job_1", units: float = 100.0) -> Reservation:
    return Reservation(JobId(name), TENANT, "enterprise", units, images=1)


def settlement(name: str = "job_1", charged: float = 60.0, outcome: str = "succeeded") -> Settlement:
    return Settlement(
        JobId(name),
        TENANT,
        "enterprise",
        KeyId("key_1"),
        reserved_units=100.0,
        actual_units=charged,
        charged_units=charged,
        images=1,
        model_version="tiny@1",
        outcome=outcome,
        gpu_ms=charged,
    )


async def test_of_a_hundred_concurrent_reservations_exactly_ten_fit(service):
    decisions = await asyncio.gather(*(service.limiter.reserve(reservation(f"job_{n}")) for n in range(100)))
    denials = [decision.denial for decision in decisions if decision.denial]
    assert len(denials) == 90
    assert {(denial.dimension, denial.limit) for denial in denials} == {("cost", 1000.0)}
    denied = next(decision for decision in decisions if decision.denial)
    assert denied.denial.retry_after_s == pytest.approx(6)
    assert dict(denied.headers)["retry-after"] == "6"


async def test_the_life_of_a_reservation_over_the_wire(service):
    decision = await service.limiter.reserve(reservation())
    assert (decision.denial, decision.available_units) == (None, 900)
    assert dict(decision.headers)["x-ratelimit-remaining-cost"] == "900"
    await service.limiter.confirm(reservation())
    assert [await service.limiter.settle(settlement()) for _ in range(2)] == [True, False]
    assert (await service.limiter.peek(reservation("", units=0.0))).available_units == 940
    assert not await service.limiter.release(TENANT, JobId("job_1"))
    await service.limiter.reserve(reservation("job_2"))
    assert await service.limiter.release(TENANT, JobId("job_2"))
    assert (await service.limiter.peek(reservation("", units=941))).denial.dimension == "cost"


async def test_more_than_the_tier_ever_grants_is_said_so(service):
    denial = (await service.limiter.reserve(reservation(units=1001))).denial
    assert (denial.dimension, denial.limit, denial.retry_after_s) == ("tier", 1000, 0)


async def test_a_reservation_that_nobody_confirms_comes_back(service, clock):
    await service.limiter.reserve(reservation(units=1000))
    for _ in range(62):
        await clock.advance(1)  # the process looks every second
    assert not await service.limiter.release(TENANT, JobId("job_1"))


async def test_a_restart_rebuilds_balances_and_keeps_settlements_and_keys(start):
    async with start() as first:
        made = await first.admin.create_key(TENANT, "enterprise", "laptop")
        await first.limiter.reserve(reservation())
        await first.limiter.settle(settlement(charged=60))
    async with start() as second:
        assert (await second.limiter.peek(reservation("", units=0.0))).available_units == 940
        assert not await second.limiter.settle(settlement(charged=60))
        await second.limiter.confirm(reservation())
        assert (await second.limiter.peek(reservation("", units=0.0))).available_units == 940
        assert await second.admin.list_keys(TENANT) == [made.key]


async def test_keys_are_made_listed_and_withdrawn(service, clock):
    made = await service.admin.create_key(TENANT, "pro", "laptop")
    assert made.secret.startswith(made.key.prefix)
    assert (made.key.tenant_id, made.key.tier, made.key.name) == (TENANT, "pro", "laptop")
    assert made.key.created_s == clock.now()
    assert await service.admin.list_keys() == await service.admin.list_keys(TENANT) == [made.key]
    assert await service.admin.list_keys(TenantId("other")) == []
    withdrawn = await service.admin.revoke_key(made.key.id)
    assert withdrawn.revoked_s == clock.now()


async def test_mistakes_of_operators_are_told(service):
    await service.admin.create_key(TENANT, "pro", "")
    with pytest.raises(PreconditionFailed, match="has the tier pro"):
        await service.admin.create_key(TENANT, "free", "")
    with pytest.raises(NotFound):
        await service.admin.revoke_key(KeyId("key_none"))
    with pytest.raises(InvalidRequest, match="enterprise, pro, payg, free, anonymous"):
        await service.admin.create_key(TENANT, "gold", "")
    with pytest.raises(InvalidRequest, match="anon:"):
        await service.admin.create_key(TenantId("anon:1.2.3.4"), "pro", "")
    for no_header in ("münchen", " acme", "acme inc"):
        with pytest.raises(InvalidRequest, match="ASCII"):
            await service.admin.create_key(TenantId(no_header), "pro", "")
    with pytest.raises(InvalidRequest, match="'jobs:all' is none") as caught:
        await service.admin.create_key(TenantId(""), "gold", "n" * 201, ["jobs:all"], lifetime_s=math.nan)
    named = {violation.field for violation in caught.value.violations}
    assert named == {"tenant_id", "tier", "name", "scopes", "lifetime_s"}


async def test_what_works_no_more_cannot_be_replaced(service):
    made = await service.admin.create_key(TENANT, "pro", "")
    for wrong in (-1.0, math.nan, math.inf, 31 * 86_400.0):
        with pytest.raises(InvalidRequest, match="overlap_s must be 0 to"):
            await service.admin.rotate_key(made.key.id, wrong)
    await service.admin.rotate_key(made.key.id, 60)
    with pytest.raises(PreconditionFailed, match="was replaced by key_"):
        await service.admin.rotate_key(made.key.id)
    gone = await service.admin.create_key(TENANT, "pro", "")
    await service.admin.revoke_key(gone.key.id)
    with pytest.raises(PreconditionFailed, match="was withdrawn"):
        await service.admin.rotate_key(gone.key.id)
    with pytest.raises(NotFound):
        await service.admin.rotate_key(KeyId("key_none"))


async def test_a_new_key_lasts_as_long_as_the_one_before_was_to_last(service, clock):
    made = await service.admin.create_key(TENANT, "pro", "", lifetime_s=1000)
    await clock.advance(900)
    rotated = await service.admin.rotate_key(made.key.id)
    assert rotated.key.expires_s == clock.now() + 1000
    assert rotated.replaced.expires_s == made.key.expires_s  # a day would be longer than it had left


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (Reservation(JobId(""), TenantId(""), "pro", math.nan, 1), {"reservation_id", "tenant_id", "units"}),
        (Reservation(JobId("j" * 65), TENANT, "pro", -1.0, 2_000_000), {"reservation_id", "units", "images"}),
        (Reservation(JobId("job\0"), TENANT, "pro", math.inf, 1), {"reservation_id", "units"}),
        (Reservation(JobId("job_1"), TENANT, "gold", 1.0, 1), {"tier"}),
    ],
)
async def test_every_invalid_field_of_a_call_is_named_at_once(service, asked: Reservation, fields: set[str]):
    with pytest.raises(InvalidRequest) as caught:
        await service.limiter.reserve(asked)
    assert {violation.field for violation in caught.value.violations} == fields


async def test_a_settlement_with_an_unknown_outcome_is_refused(service):
    with pytest.raises(InvalidRequest, match="outcome must be one of succeeded, failed, cancelled, expired"):
        await service.limiter.settle(settlement(outcome="exploded"))


async def test_strangers_are_refused_and_only_operators_make_keys(service, settings):
    address = f"127.0.0.1:{service.port}"
    async with open_channel(address, mesh_token="guessed") as channel:
        with pytest.raises(Unauthenticated):
            await LimiterClient(channel).reserve(reservation())
    mesh = read_token(settings.secrets_folder, MESH_TOKEN)
    async with open_channel(address, mesh_token=mesh) as channel:
        with pytest.raises(PermissionDenied):
            await LimiterAdminClient(channel).list_keys()


async def test_a_limiter_that_is_gone_is_degraded():
    async with open_channel(f"127.0.0.1:{free_port()}", mesh_token="x") as channel:
        with pytest.raises(Unavailable) as caught:
            await LimiterClient(channel).reserve(reservation())
    assert caught.value.reason == "LIMITER_DEGRADED"
    assert caught.value.retry_after_s


async def test_a_stuck_database_fails_settlements_and_not_reservations(service, settings):
    other = sqlite3.connect(str(make_url(settings.database).database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert (await service.limiter.reserve(reservation())).denial is None
    with pytest.raises(Unavailable) as caught:
        await service.limiter.settle(settlement())
    assert caught.value.reason == "LIMITER_DEGRADED"
    other.execute("ROLLBACK")
    other.close()
    assert await service.limiter.settle(settlement(charged=60))
    assert (await service.limiter.peek(reservation("", units=0.0))).available_units == 940


async def test_it_says_that_it_is_ready(service):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        asked = health_pb2.HealthCheckRequest(service="darkroom.ratelimiter.v1.LimiterService")
        answer = await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
