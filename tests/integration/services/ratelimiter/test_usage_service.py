"""Usage as operators read it, over the wire."""

from __future__ import annotations

from typing import Any

import pytest

from libs.clients.limiter import Settlement
from libs.clients.limiter_usage import UsageClient, UsageFilter, UsageRecord
from libs.errors import InvalidRequest, PermissionDenied
from libs.ids import JobId, KeyId, TenantId
from libs.rpc.channel import open_channel
from libs.secret_files import MESH_TOKEN, read_token
from libs.testing.clock import ManualClock

BEFORE_MIDNIGHT_S = 1_700_006_395.0  # 2023-11-14T23:59:55Z


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BEFORE_MIDNIGHT_S)


async def settle(service, name: str, tenant: str, outcome: str = "succeeded", model: str = "tiny@1") -> None:
    numbers: dict[str, Any] = {"reserved_units": 100.0, "actual_units": 80.0, "charged_units": 60.0, "gpu_ms": 90.0}
    job = Settlement(
        JobId(name),
        TenantId(tenant),
        "pro",
        KeyId(f"key_{tenant}"),
        images=2,
        model_version=model,
        outcome=outcome,
        **numbers,
    )
    assert await service.limiter.settle(job)


async def read(service, **wanted) -> list[UsageRecord]:
    return [line async for line in UsageClient(service.channel).read(UsageFilter(**wanted))]


@pytest.fixture
async def used(service, clock) -> None:
    await settle(service, "job_1", "acme")
    await settle(service, "job_2", "acme", outcome="failed")
    await settle(service, "job_3", "other", model="large@7")
    await clock.advance(10)
    await settle(service, "job_4", "acme")


async def test_nothing_was_used_is_no_line(service):
    assert await read(service) == await read(service, by=("day",)) == []


async def test_usage_is_added_up_as_asked(service, used):
    (whole,) = await read(service)
    assert (whole.jobs, whole.succeeded, whole.failed, whole.images) == (4, 3, 1, 8)
    assert (whole.gpu_ms, whole.actual_units, whole.charged_units) == (360.0, 320.0, 240.0)
    days = await read(service, by=("day",))
    assert [(line.day, line.jobs) for line in days] == [("2023-11-14", 3), ("2023-11-15", 1)]
    parts = await read(service, by=("tenant", "model"))
    assert [(p.tenant_id, p.model_version, p.jobs) for p in parts] == [("acme", "tiny@1", 3), ("other", "large@7", 1)]
    keys = await read(service, by=("key", "day"))
    assert [(k.key_id, k.day) for k in keys] == [
        ("key_acme", "2023-11-14"),
        ("key_acme", "2023-11-15"),
        ("key_other", "2023-11-14"),
    ]


@pytest.mark.parametrize(
    ("wanted", "jobs"),
    [
        ({"tenant_id": "acme"}, 3),
        ({"key_id": "key_other"}, 1),
        ({"model": "tiny"}, 3),
        ({"model": "tiny@1", "from_day": "2023-11-15"}, 1),
        ({"model": "tin"}, 0),
        ({"model": "t%"}, 0),
        ({"to_day": "2023-11-14"}, 3),
        ({"from_day": "2023-11-16"}, 0),
    ],
)
async def test_usage_is_narrowed_as_asked(service, used, wanted: dict[str, str], jobs: int):
    assert sum(line.jobs for line in await read(service, **wanted)) == jobs


async def test_mistakes_are_named_together(service):
    with pytest.raises(InvalidRequest) as caught:
        await read(service, by=("day", "week"), from_day="yesterday", to_day="2023-02-30")
    assert [violation.field for violation in caught.value.violations] == ["by", "from_day", "to_day"]
    with pytest.raises(InvalidRequest, match="must not be before"):
        await read(service, from_day="2023-11-15", to_day="2023-11-14")


async def test_only_operators_read_usage(service, settings):
    mesh = read_token(settings.secrets_folder, MESH_TOKEN)
    async with open_channel(f"127.0.0.1:{service.port}", mesh_token=mesh) as channel:
        with pytest.raises(PermissionDenied):
            await anext(UsageClient(channel).read(UsageFilter()))
