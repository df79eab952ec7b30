"""Reading usage page by page, on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.sql_database import Database
from services.ratelimiter.usage.book import Settlement, UsageRow
from services.ratelimiter.usage.reports import Part, Place, UsageQuery, UsageSum, day_from, day_text
from services.ratelimiter.usage.sql_book import SqlUsage
from services.ratelimiter.usage.sql_reports import SqlReports

DAY_S = 86_400.0


async def use(database: Database, jobs: int) -> None:
    for n in range(jobs):
        hold = Hold(JobId(f"job_{n}"), TenantId(f"t{n % 3}"), "pro", units=1.0)
        settlement = Settlement(hold, KeyId(f"k{n % 2}"), f"m{n % 4}@1", "succeeded", 1.0, 1.0, gpu_ms=1.0, images=1)
        await SqlUsage(database).record(UsageRow(settlement, settled_s=(n % 5) * DAY_S, reserved_s=None, micros=2))


@pytest.mark.parametrize("by", [(Part.DAY,), (Part.TENANT, Part.DAY), (Part.MODEL, Part.KEY, Part.TENANT, Part.DAY)])
async def test_pages_make_one_whole_in_order(database: Database, by: tuple[Part, ...]):
    await use(database, 30)
    read = [line async for line in SqlReports(database, page=2).read(UsageQuery(by))]
    whole = [line async for line in SqlReports(database).read(UsageQuery(by))]
    assert read == whole
    assert sum(line.jobs for line in read) == 30
    names = {Part.DAY: "day", Part.TENANT: "tenant_id", Part.KEY: "key_id", Part.MODEL: "model_version"}
    places = [tuple(getattr(line, names[part]) for part in by) for line in read]
    assert places == sorted(set(places))


@pytest.mark.parametrize("by", [(Part.DAY,), (Part.MODEL, Part.DAY)])
async def test_somebody_who_waits_reads_a_page_at_a_time(database: Database, by: tuple[Part, ...]):
    await use(database, 30)
    reports, query = SqlReports(database), UsageQuery(by, tenant_id="t1", from_day=1, to_day=3)
    whole = [line async for line in reports.read(query)]
    read: list[UsageSum] = []
    while page := await reports.page(query, place_of(read[-1], by) if read else (), 2):
        assert len(page) <= 2
        read += page
    assert read == whole
    assert {line.day for line in read} == {1, 2, 3}


def place_of(line: UsageSum, by: tuple[Part, ...]) -> Place:
    named = {Part.DAY: line.day, Part.MODEL: line.model_version}
    return tuple(value for part in by if (value := named[part]) is not None)


async def test_a_sum_tells_all_that_was_counted(database: Database):
    await use(database, 6)
    (line,) = [line async for line in SqlReports(database).read(UsageQuery(tenant_id="t1"))]
    assert (line.day, line.tenant_id, line.jobs, line.succeeded, line.images, line.micros) == (None, None, 2, 2, 2, 4)


def test_days_are_written_as_dates_and_in_no_other_form():
    assert day_text(0) == "1970-01-01"
    assert day_from(day_text(20_000)) == 20_000
    for other in ("20231114", "2023-W46-2", "2023-11-14T00:00", "2023-11-31", ""):
        with pytest.raises(ValueError):  # noqa: PT011
            day_from(other)
