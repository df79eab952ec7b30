"""Usage by day, added up in SQL and read page by page: each page is a short transaction and begins behind the last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, case, func, select, tuple_

from services.ratelimiter import schema
from services.ratelimiter.sql_database import LONG_S, Database
from services.ratelimiter.usage.book import OUTCOMES
from services.ratelimiter.usage.reports import Part, Place, UsageQuery, UsageSum

_PAGE = 500
_WAITED_S = 4.0  # below libs.rpc.deadlines.READ_S
_SUMS = ("jobs", "images", "gpu_ms", "actual_units", "charged_units", "micros")


class SqlReports:
    """Keeps the promises of `reports.Reports` and `reports.UsagePages`."""

    def __init__(self, database: Database, page: int = _PAGE) -> None:
        days = schema.build().tables["usage_days"].c
        self._database, self._days, self._page = database, days, page
        self._columns: dict[Part, ColumnElement[Any]] = {
            Part.DAY: days.day,
            Part.TENANT: days.tenant_id,
            Part.KEY: days.key_id,
            Part.MODEL: days.model_version,
        }

    async def read(self, query: UsageQuery) -> AsyncIterator[UsageSum]:
        """Give the sums in the order of the parts."""
        after: Sequence[Any] = ()
        while True:
            rows = await self._database.rows(self._asked(query, after, self._page), LONG_S)
            for row in rows:
                if row.jobs:  # without parts there is always a row, also for nothing
                    yield _sum(query.by, row)
            if not query.by or len(rows) < self._page:
                return
            after = rows[-1][: len(query.by)]

    async def page(self, query: UsageQuery, after: Place, most: int) -> Sequence[UsageSum]:
        """Return a page of the sums, in a time that somebody waits."""
        rows = await self._database.rows(self._asked(query, after, most), _WAITED_S)
        return [_sum(query.by, row) for row in rows if row.jobs]

    def _asked(self, query: UsageQuery, after: Sequence[Any], most: int) -> Select[Any]:
        days, places = self._days, [self._columns[part] for part in query.by]
        sums = [func.sum(days[name]).label(name) for name in _SUMS]
        ends = [func.sum(case((days.outcome == name, days.jobs), else_=0)).label(name) for name in OUTCOMES]
        done = func.sum(case((days.outcome == OUTCOMES[0], days.gpu_ms), else_=0.0)).label("succeeded_gpu_ms")
        asked = select(*places, *sums, *ends, done).where(*self._wanted(query))
        if not places:
            return asked
        if after:
            asked = asked.where(tuple_(*places) > tuple_(*after))
        return asked.group_by(*places).order_by(*places).limit(most)

    def _wanted(self, query: UsageQuery) -> list[ColumnElement[bool]]:
        days = self._days
        wanted: list[ColumnElement[bool]] = []
        if query.tenant_id:
            wanted.append(days.tenant_id == query.tenant_id)
        if query.key_id:
            wanted.append(days.key_id == query.key_id)
        if query.model:
            pinned = "@" in query.model
            named = days.model_version == query.model
            wanted.append(named if pinned else days.model_version.startswith(f"{query.model}@", autoescape=True))
        if query.from_day is not None:
            wanted.append(days.day >= query.from_day)
        if query.to_day is not None:
            wanted.append(days.day <= query.to_day)
        return wanted


def _sum(by: Sequence[Part], row: Row[Any]) -> UsageSum:
    parts: dict[Part, Any] = dict(zip(by, row, strict=False))
    return UsageSum(
        parts.get(Part.DAY),
        parts.get(Part.TENANT),
        parts.get(Part.KEY),
        parts.get(Part.MODEL),
        jobs=int(row.jobs),
        succeeded=int(row.succeeded),
        failed=int(row.failed),
        cancelled=int(row.cancelled),
        expired=int(row.expired),
        images=int(row.images),
        gpu_ms=row.gpu_ms,
        actual_units=row.actual_units,
        charged_units=row.charged_units,
        micros=int(row.micros),
        succeeded_gpu_ms=row.succeeded_gpu_ms,
    )
