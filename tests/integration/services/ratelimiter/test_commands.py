"""The operators' commands against a running rate limiter: what they print."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest

from libs.cli import tenants, tiers, usage
from libs.cli.target import Target
from libs.clients.limiter import Reservation
from libs.clients.limiter_tenants import NO_KEY, TenantChange
from libs.clients.limiter_usage import UsageFilter
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.sql_database import Database
from services.ratelimiter.usage.book import Settlement, UsageRow
from services.ratelimiter.usage.sql_book import SqlUsage

ACME = TenantId("acme")


@pytest.fixture
def target(service, settings) -> Target:
    return Target(settings.data, "", "", {"DARKROOM_ADMIN_ADDRESS": f"127.0.0.1:{service.port}"})


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[list[str]]]:
    """Return what was printed since the last time: words by line."""
    return lambda: [line.split() for line in capsys.readouterr().out.splitlines()]


async def test_tenants_from_their_making_to_their_limits(target: Target, service, printed):
    limits = {"daily_images": "5"}
    await tenants._set(target, TenantChange(ACME, "free", limits=limits, cap_micros=100_000_000), as_json=False)
    columns, row, money = printed()
    assert columns == ["tenant", "tier", "verified", "made", "balance", "own", "limits"]
    assert row == ["acme", "free", "no", "2023-11-14T22:13:20Z", "0.00", "daily_images=5"]
    assert " ".join(money) == "held for running jobs 0.00, spent this month 0.00, most in a month 100.00"
    await tenants._credit(target, ACME, 12_500_001, "invoice-7", "", as_json=True)
    printed()
    await tenants._list(target, as_json=False)
    assert printed()[1][4] == "12.500001"
    await service.limiter.reserve(Reservation(JobId("job_1"), ACME, "free", 250.0, images=2))
    await tenants._limits(target, ACME, NO_KEY, as_json=False)
    state = {row[0]: row[1:4] for row in printed()[1:]}
    assert state == {"rpm": ["1", "10", "9"], "cost": ["250", "1000", "750"], "daily": ["2", "5", "3"]}
    await tenants._events(target, ACME, as_json=True)
    assert printed() == [["[]"]]


async def test_tiers_are_checked_and_applied(target: Target, settings, capsys: pytest.CaptureFixture[str]):
    other = settings.tiers.read_text().replace("requests_burst = 10", "requests_burst = 11")
    await tiers._check(target, other, as_json=False)
    told = capsys.readouterr()
    assert told.out == "The file is right. It would change:\n  free.requests_burst: 10 → 11\n"
    assert told.err == "The scheduler does not answer, so nothing was compared with the prices as measured.\n"
    await tiers._apply(target, other, as_json=False)
    assert capsys.readouterr().out == f"Written to {settings.tiers}. Changed:\n  free.requests_burst: 10 → 11\n"
    await tiers._check(target, other, as_json=True)
    told = capsys.readouterr()
    assert json.loads(told.out) == {"changes": [], "too_dear": None}  # nobody tells prices there
    await tiers._show(target, as_json=False)
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[0] == ["limit", "enterprise", "pro", "payg", "free", "anonymous"]
    assert ["requests_burst", "200", "60", "60", "11", "5"] in table


async def test_usage_is_exported(target: Target, settings, clock, capsys: pytest.CaptureFixture[str]):
    database = Database(settings.database, deadline_s=10.0)
    for n, tenant in enumerate(("acme", "=HYPERLINK(1)")):
        hold = Hold(JobId(f"job_{n}"), TenantId(tenant), "pro", units=1.0)
        job = Settlement(hold, KeyId("k"), "tiny@1", "succeeded", 2.0, 1.0, gpu_ms=1500.0, images=3)
        await SqlUsage(database).record(UsageRow(job, clock.now(), None, micros=20_000))
    await database.close()
    by = UsageFilter(("day", "tenant"))
    await usage._usage(target, by, "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["tenant_id"] for row in rows] == ["'=HYPERLINK(1)", "acme"]
    assert (rows[1]["day"], rows[1]["images"], rows[1]["gpu_ms"], rows[1]["micros"]) == (
        "2023-11-14",
        "3",
        "1500.0",
        "20000",
    )
    await usage._usage(target, by, "json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["tenant_id"], line["jobs"]) for line in lines] == [("=HYPERLINK(1)", 1), ("acme", 1)]
    await usage._usage(target, UsageFilter(), "table")
    assert capsys.readouterr().out.splitlines()[1].split() == ["2", "2", "0", "0", "0", "6", "3.0", "4", "2", "0.04"]
