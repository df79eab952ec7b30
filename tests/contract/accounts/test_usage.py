"""Usage: one row a job, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.reservation import Hold
from services.ratelimiter.sql_database import Database
from services.ratelimiter.sql_usage import SqlUsage
from services.ratelimiter.usage import Settlement, UsageRow

NOW_S = 1_700_000_000.123


@pytest.fixture
def usage(database: Database) -> SqlUsage:
    return SqlUsage(database)


def row(job: str, settled_s: float = NOW_S, reserved_s: float | None = NOW_S - 1) -> UsageRow:
    hold = Hold(JobId(job), TenantId("acme"), "pro", units=400.5, images=2)
    settlement = Settlement(hold, KeyId("key_1"), "tiny@1", "succeeded", 321.25, 300.125, gpu_ms=321.5, images=2)
    return UsageRow(settlement, settled_s, reserved_s)


async def test_a_row_reads_back_as_it_was_written(usage: SqlUsage):
    written = [row("job_1"), row("job_2", reserved_s=None)]
    for each in written:
        assert await usage.record(each)
    assert await usage.since(NOW_S) == written


async def test_of_many_settlements_of_one_job_one_is_written(usage: SqlUsage):
    rows = [row("job_1", settled_s=NOW_S + n) for n in range(8)]
    written = await asyncio.gather(*(usage.record(each) for each in rows))
    assert sorted(written) == [False] * 7 + [True]
    assert await usage.since(0) == [rows[written.index(True)]]


async def test_whether_a_job_was_settled(usage: SqlUsage):
    await usage.record(row("job_1"))
    assert await usage.has(JobId("job_1"))
    assert not await usage.has(JobId("job_2"))


async def test_since_is_in_order_of_time_and_leaves_the_older_out(usage: SqlUsage):
    for settled_s in (NOW_S + 2, NOW_S, NOW_S - 1, NOW_S + 1):
        await usage.record(row(f"job_{settled_s}", settled_s))
    assert [each.settled_s for each in await usage.since(NOW_S)] == [NOW_S, NOW_S + 1, NOW_S + 2]


async def test_a_failure_in_a_transaction_leaves_nothing(database: Database, usage: SqlUsage):
    broken = row("job_1")
    nameless = replace(broken, settlement=replace(broken.settlement, model_version=None))  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)null"):
        await usage.record(nameless)
    assert await usage.record(broken)
