"""Usage in SQL: one row a job, written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from libs.ids import JobId, KeyId, TenantId
from libs.sql.inserts import insert_if_absent
from services.ratelimiter import schema
from services.ratelimiter.reservation import Hold
from services.ratelimiter.sql_database import Database
from services.ratelimiter.usage import Settlement, UsageRow


class SqlUsage:
    """Keeps the promises of `usage.UsageBook`."""

    def __init__(self, database: Database) -> None:
        self._database, self._usage = database, schema.build().tables["usage"]

    async def record(self, row: UsageRow) -> bool:
        """Write the row; False when the job has one already."""
        return await self._database.write(lambda within: insert_if_absent(within, self._usage, _columns(row)))

    async def has(self, job_id: JobId) -> bool:
        """Whether the job was settled."""
        asked = select(self._usage.c.job_id).where(self._usage.c.job_id == job_id)
        return bool(await self._database.rows(asked))

    async def since(self, settled_s: float) -> Sequence[UsageRow]:
        """Return what was settled from a moment on, in order of time."""
        usage = self._usage
        asked = select(usage).where(usage.c.settled_at >= settled_s).order_by(usage.c.settled_at, usage.c.job_id)
        return [_row(row) for row in await self._database.rows(asked)]


def _columns(row: UsageRow) -> dict[str, object]:
    settlement, hold = row.settlement, row.settlement.hold
    return {
        "job_id": hold.reservation_id,
        "tenant_id": hold.tenant_id,
        "tier": hold.tier,
        "key_id": settlement.key_id,
        "model_version": settlement.model_version,
        "outcome": settlement.outcome,
        "images": settlement.images,
        "reserved_units": hold.units,
        "actual_units": settlement.actual_units,
        "charged_units": settlement.charged_units,
        "gpu_ms": settlement.gpu_ms,
        "reserved_at": row.reserved_s,
        "settled_at": row.settled_s,
    }


def _row(row: Row[Any]) -> UsageRow:
    hold = Hold(JobId(row.job_id), TenantId(row.tenant_id), row.tier, row.reserved_units, row.images)
    settlement = Settlement(
        hold,
        KeyId(row.key_id),
        row.model_version,
        row.outcome,
        actual_units=row.actual_units,
        charged_units=row.charged_units,
        gpu_ms=row.gpu_ms,
        images=row.images,
    )
    return UsageRow(settlement, settled_s=row.settled_at, reserved_s=row.reserved_at)
