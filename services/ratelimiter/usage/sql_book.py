"""Usage in SQL: one row a job, written once, and in the same transaction added to its day and paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId, KeyId, TenantId
from libs.sql.inserts import dialect_insert, insert_if_absent
from services.ratelimiter import schema
from services.ratelimiter.balances.causes import Cause
from services.ratelimiter.balances.days import number_of
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.sql_database import LONG_S, Database
from services.ratelimiter.tenants.sql_wallets import SqlWallets, one_at_a_time
from services.ratelimiter.usage.book import DayTotal, Settlement, UsageRow

_AT_ONCE = 1000  # rows that one step of `forget` removes


class SqlUsage:
    """Keeps the promises of `usage.UsageBook`."""

    def __init__(self, database: Database) -> None:
        tables = schema.build().tables
        self._database, self._usage, self._days = database, tables["usage"], tables["usage_days"]
        self._wallets = SqlWallets(database)

    async def record(self, row: UsageRow) -> bool:
        """Write the row, add it to its day and pay it; False when the job has one already."""
        hold = row.settlement.hold

        async def write(within: AsyncConnection) -> bool:
            await one_at_a_time(within, hold.reservation_id)
            if not await insert_if_absent(within, self._usage, _columns(row)):
                return False
            await self._wallets.pay(within, hold.tenant_id, hold.reservation_id, row.micros, row.settled_s)
            await self._add_to_day(within, row)
            return True

        return await self._database.write(write)

    async def forget(self, before_s: float) -> int:
        """Remove what was settled before a moment, and whole days before it; returns the rows of one bounded step."""
        usage, days = self._usage, self._days
        old = select(usage.c.job_id).where(usage.c.settled_at < before_s).order_by(usage.c.settled_at).limit(_AT_ONCE)

        async def write(within: AsyncConnection) -> int:
            gone = (await within.execute(delete(usage).where(usage.c.job_id.in_(old)))).rowcount
            await within.execute(delete(days).where(days.c.day < number_of(before_s)))
            return int(gone)

        return await self._database.write(write)

    async def has(self, job_id: JobId) -> bool:
        """Whether the job was settled."""
        asked = select(self._usage.c.job_id).where(self._usage.c.job_id == job_id)
        return bool(await self._database.rows(asked))

    async def since(self, settled_s: float) -> Sequence[UsageRow]:
        """Return what was settled from a moment on, in order of time."""
        usage = self._usage
        asked = select(usage).where(usage.c.settled_at >= settled_s).order_by(usage.c.settled_at, usage.c.job_id)
        return [_row(row) for row in await self._database.rows(asked, LONG_S)]

    async def day_totals(self, begin_s: float) -> Sequence[DayTotal]:
        """Return sums by caller."""
        usage = self._usage
        who = (usage.c.tenant_id, usage.c.tier, usage.c.key_id, usage.c.address)
        sums = (func.sum(usage.c.day_images).label("images"), func.sum(usage.c.charged_units).label("units"))
        reserved_s = func.coalesce(usage.c.reserved_at, usage.c.settled_at)
        # The index is by the time of settlement, which is never the earlier one.
        of_day = (usage.c.settled_at >= begin_s, reserved_s >= begin_s)
        rows = await self._database.rows(select(*who, *sums).where(*of_day).group_by(*who), LONG_S)
        return [DayTotal(_caller(row), int(row.images), float(row.units)) for row in rows]

    async def _add_to_day(self, within: AsyncConnection, row: UsageRow) -> None:
        days, settlement = self._days, row.settlement
        added = {
            "jobs": 1,
            "images": settlement.images,
            "gpu_ms": settlement.gpu_ms,
            "actual_units": settlement.actual_units,
            "charged_units": settlement.charged_units,
            "micros": row.micros,
        }
        place = {
            "day": number_of(row.settled_s),
            "tenant_id": settlement.hold.tenant_id,
            "key_id": settlement.key_id,
            "model_version": settlement.model_version,
            "outcome": settlement.outcome,
        }
        statement = dialect_insert(within, days).values(**place, **added)
        sums = {name: days.c[name] + statement.excluded[name] for name in added}
        await within.execute(statement.on_conflict_do_update(index_elements=list(place), set_=sums))


def _columns(row: UsageRow) -> dict[str, object]:
    settlement, hold = row.settlement, row.settlement.hold
    return {
        "job_id": hold.reservation_id,
        "tenant_id": hold.tenant_id,
        "tier": hold.tier,
        "key_id": settlement.key_id,
        "model_version": settlement.model_version,
        "outcome": settlement.outcome,
        "cause": settlement.cause.value,
        "address": hold.address,
        "images": settlement.images,
        "reserved_images": hold.images,
        "day_images": settlement.charge.day_images(hold.images),
        "reserved_units": hold.units,
        "actual_units": settlement.actual_units,
        "charged_units": settlement.charged_units,
        "gpu_ms": settlement.gpu_ms,
        "micros": row.micros,
        "reserved_at": row.reserved_s,
        "settled_at": row.settled_s,
    }


def _row(row: Row[Any]) -> UsageRow:
    hold = replace(_caller(row), reservation_id=JobId(row.job_id), units=row.reserved_units, images=row.reserved_images)
    settlement = Settlement(
        hold,
        KeyId(row.key_id),
        row.model_version,
        row.outcome,
        actual_units=row.actual_units,
        charged_units=row.charged_units,
        gpu_ms=row.gpu_ms,
        images=row.images,
        cause=Cause(row.cause),
    )
    return UsageRow(settlement, settled_s=row.settled_at, reserved_s=row.reserved_at, micros=row.micros)


def _caller(row: Row[Any]) -> Hold:
    return Hold(JobId(""), TenantId(row.tenant_id), row.tier, 0.0, 0, KeyId(row.key_id), row.address)
