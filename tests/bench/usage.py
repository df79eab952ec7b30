"""What it costs to add usage up by day when it is settled, against adding up rows when somebody asks: `make bench/usage`.

A million settled jobs of a thousand tenants in thirty days, in an SQLite file.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from sqlalchemy import TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId, KeyId, TenantId
from libs.sql.inserts import insert_if_absent
from services.ratelimiter import migrate, schema
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.sql_database import Database
from services.ratelimiter.usage.book import Settlement, UsageRow
from services.ratelimiter.usage.reports import Part, UsageQuery
from services.ratelimiter.usage.sql_book import SqlUsage
from services.ratelimiter.usage.sql_reports import SqlReports

ROWS, TENANTS, DAYS, TRIES = 1_000_000, 1000, 30, 300
DAY_S = 86_400
FILL = f"""
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS - 1})
INSERT INTO usage (job_id, tenant_id, tier, key_id, address, model_version, outcome, images, reserved_units,
  actual_units, charged_units, gpu_ms, micros, reserved_at, settled_at)
SELECT 'job_' || i, 'tenant_' || (i * 7919 % {TENANTS}), 'pro', 'key_' || (i % 3), '', 'model_' || (i % 4) || '@1',
  'succeeded', 1, 100, 90, 90, 90, 0, NULL, i * {DAYS * DAY_S / ROWS} FROM n
"""
ADD_UP = """
INSERT INTO usage_days
  (day, tenant_id, key_id, model_version, outcome, jobs, images, gpu_ms, actual_units, charged_units, micros)
SELECT CAST(settled_at / 86400.0 AS INTEGER), tenant_id, key_id, model_version, outcome,
  COUNT(*), SUM(images), SUM(gpu_ms), SUM(actual_units), SUM(charged_units), 0
FROM usage GROUP BY 1, 2, 3, 4, 5
"""


async def main() -> None:
    """Print milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite+aiosqlite:///{Path(folder) / 'usage.db'}"
        await migrate.upgrade(url)
        database = Database(url, deadline_s=600.0)
        for statement in (text(FILL), text(ADD_UP)):
            await database.write(partial(_execute, statement))
        await _settling(database)
        await _asking(database)
        await database.close()


async def _execute(statement: TextClause, within: AsyncConnection) -> None:
    await within.execute(statement)


async def _settling(database: Database) -> None:
    table, usage = schema.build().tables["usage"], SqlUsage(database)
    columns = {c.name: "" for c in table.c} | dict.fromkeys(
        ("images", "reserved_units", "actual_units", "charged_units", "gpu_ms", "micros", "settled_at"), 0
    )

    async def bare(n: int) -> None:
        row = columns | {"job_id": f"bare_{n}", "reserved_at": None}
        await database.write(lambda within: insert_if_absent(within, table, row))

    async def whole(n: int) -> None:
        hold = Hold(JobId(f"whole_{n}"), TenantId(f"tenant_{n % TENANTS}"), "pro", units=100.0)
        job = Settlement(hold, KeyId("key_1"), "model_1@1", "succeeded", 90.0, 90.0, gpu_ms=90.0, images=1)
        await usage.record(UsageRow(job, settled_s=DAYS * DAY_S - 1.0, reserved_s=None))

    print(f"a row of usage alone             {await _median_ms(bare):8.2f} ms")
    print(f"with its day and its money       {await _median_ms(whole):8.2f} ms")


async def _asking(database: Database) -> None:
    usage, reports = schema.build().tables["usage"].c, SqlReports(database)

    async def read(query: UsageQuery) -> None:
        assert [line async for line in reports.read(query)]

    async def rows_of(tenant: str | None) -> None:
        day = func.cast(usage.settled_at / DAY_S, usage.images.type)
        asked = select(day, func.count(), func.sum(usage.gpu_ms)).group_by(day)
        await database.rows(asked.where(usage.tenant_id == tenant) if tenant else asked)

    await read(UsageQuery(tenant_id="tenant_1"))  # opens the file for reading
    one = UsageQuery((Part.DAY, Part.MODEL), tenant_id="tenant_7")
    print(f"a tenant by day and model        {await _once_ms(lambda: read(one)):8.1f} ms")
    print(f"the same from the rows           {await _once_ms(lambda: rows_of('tenant_7')):8.1f} ms")
    print(f"all tenants of a day             {await _once_ms(lambda: read(_TODAY)):8.1f} ms")
    print(f"everything by tenant             {await _once_ms(lambda: read(UsageQuery((Part.TENANT,)))):8.1f} ms")
    print(f"everything by day                {await _once_ms(lambda: read(UsageQuery((Part.DAY,)))):8.1f} ms")
    print(f"the same from the rows           {await _once_ms(lambda: rows_of(None)):8.1f} ms")


_TODAY = UsageQuery((Part.TENANT,), from_day=DAYS - 1, to_day=DAYS - 1)


async def _median_ms(work: Callable[[int], Awaitable[None]]) -> float:
    return statistics.median([await _once_ms(partial(work, n)) for n in range(TRIES)])


async def _once_ms(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return 1000.0 * (time.perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(main())
