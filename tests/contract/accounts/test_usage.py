"""Usage: one row a job, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from alembic import command
from sqlalchemy import Connection, insert, select

from libs.devstack.postgres import PostgresServer
from libs.ids import JobId, KeyId, TenantId
from libs.sql import migrations
from services.ratelimiter import migrate, schema
from services.ratelimiter.balances.causes import Cause
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.sql_database import Database
from services.ratelimiter.usage.book import Settlement, UsageRow
from services.ratelimiter.usage.reports import UsageQuery
from services.ratelimiter.usage.sql_book import SqlUsage
from services.ratelimiter.usage.sql_reports import SqlReports

NOW_S = 1_700_000_000.123


@pytest.fixture
def usage(database: Database) -> SqlUsage:
    return SqlUsage(database)


async def days_of(database: Database) -> list[tuple[object, ...]]:
    """Return day, outcome, jobs, images, device time, units measured and charged, and money of each part of a day."""
    days = schema.build().tables["usage_days"].c
    asked = select(
        days.day, days.outcome, days.jobs, days.images, days.gpu_ms, days.actual_units, days.charged_units, days.micros
    )
    return [tuple(found) for found in await database.rows(asked.order_by(days.day, days.outcome))]


def row(job: str, settled_s: float = NOW_S, reserved_s: float | None = NOW_S - 1) -> UsageRow:
    hold = Hold(JobId(job), TenantId("acme"), "pro", units=400.5, images=2, key_id=KeyId("key_1"))
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


async def test_what_a_day_came_to_by_caller(usage: SqlUsage):
    causes = (Cause.SUCCEEDED, Cause.PLATFORM, Cause.JOINED, Cause.PARTLY)
    for number, cause in enumerate(causes):
        one = row(f"job_{number}")
        hold = replace(one.settlement.hold, address="203.0.113.7", images=4)
        await usage.record(replace(one, settlement=replace(one.settlement, hold=hold, cause=cause)))
    await usage.record(row("yesterday", reserved_s=NOW_S - 100))
    await usage.record(row("long ago", settled_s=NOW_S - 50))
    totals = await usage.day_totals(NOW_S - 10)
    assert [(each.hold.address, each.hold.key_id, each.images, each.units) for each in totals] == [
        ("203.0.113.7", "key_1", 4 + 4 + 2, 4 * 300.125)
    ]


async def test_what_reads_a_whole_day_may_take_longer_than_a_caller_waits(
    url: str, server: PostgresServer | None, usage: SqlUsage
):
    if server:
        pytest.skip("connecting to a server alone takes longer than the deadline that shows it here")
    await usage.record(row("job_1"))
    hasty = Database(url, deadline_s=1e-6)
    assert len(await SqlUsage(hasty).since(0)) == 1
    assert len(await SqlUsage(hasty).day_totals(NOW_S - 10)) == 1
    assert [line.jobs async for line in SqlReports(hasty).read(UsageQuery())] == [1]
    await hasty.close()


async def test_a_failure_in_a_transaction_leaves_nothing(database: Database, usage: SqlUsage):
    broken = row("job_1")
    nameless = replace(broken, settlement=replace(broken.settlement, model_version=None))  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)null"):
        await usage.record(nameless)
    assert await usage.record(broken)


async def test_a_settlement_is_added_to_its_day_once(database: Database, usage: SqlUsage):
    rows = [row(f"job_{n}") for n in range(4)]
    await asyncio.gather(*(usage.record(replace(each, micros=7)) for each in [*rows, *rows]))
    other = row("job_5", settled_s=NOW_S + 86_400)
    await usage.record(replace(other, settlement=replace(other.settlement, outcome="failed", charged_units=0.0)))
    day = int(NOW_S // 86_400)
    assert await days_of(database) == [
        (day, "succeeded", 4, 8, 1286.0, 1285.0, 1200.5, 28),
        (day + 1, "failed", 1, 2, 321.5, 321.25, 0.0, 0),
    ]


async def test_what_is_old_is_forgotten_by_row_and_by_whole_day(database: Database, usage: SqlUsage):
    for n in range(3):
        await usage.record(row(f"job_{n}", settled_s=NOW_S + n * 86_400))
    assert await usage.forget(NOW_S + 86_400) == 1
    assert await usage.forget(NOW_S + 86_400) == 0
    assert [each.settlement.hold.reservation_id for each in await usage.since(0)] == ["job_1", "job_2"]
    assert [day[0] for day in await days_of(database)] == [int(NOW_S // 86_400) + 1, int(NOW_S // 86_400) + 2]


def back_to_0001(connection: Connection) -> None:
    command.downgrade(migrations.config(migrate.HISTORY, connection), "0001")


async def test_days_are_filled_from_what_was_settled_before_there_were_days(database: Database, url: str):
    await database.write(lambda within: within.run_sync(back_to_0001))
    usage = schema.build().tables["usage"]
    values = {"tenant_id": "acme", "tier": "pro", "key_id": "", "model_version": "m@1", "outcome": "succeeded"}
    numbers = {"images": 2, "reserved_units": 1.0, "actual_units": 2.0, "charged_units": 3.0, "gpu_ms": 4.0}
    for job, at_s in (("job_1", 86_399.9), ("job_2", 86_399.2), ("job_3", 86_400.0)):
        written = insert(usage).values(job_id=job, settled_at=at_s, **values, **numbers)
        await database.write(lambda within, written=written: within.execute(written))
    await migrate.upgrade(url)
    days = [found[:5] for found in await days_of(database)]
    assert days == [(0, "succeeded", 2, 4, 8.0), (1, "succeeded", 1, 2, 4.0)]
