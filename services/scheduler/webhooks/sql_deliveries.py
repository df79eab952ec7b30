"""Deliveries of webhooks, in SQL."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId
from libs.sql import claims
from libs.webhooks import tries
from libs.webhooks.shares import Claim
from libs.webhooks.tries import Fate, Told
from services.scheduler.job import Job, JobState
from services.scheduler.storage.changes import NewEvent
from services.scheduler.storage.sql_schema import webhook_deliveries as table
from services.scheduler.storage.sql_transactions import Transactions
from services.scheduler.webhooks import deliveries
from services.scheduler.webhooks.store import Delivery, Report

logger = logging.getLogger(__name__)

_DETAIL = ("model", "model_version", "labels", "error_reason", "image_index")  # kept as one document
_PLAIN = tuple(
    field.name for field in dataclasses.fields(Delivery) if field.name not in (*_DETAIL, "state", "fate")
)  # columns of the same names


class SqlDeliveries:
    """The part of the SQL store that webhooks are delivered from."""

    _transactions: Transactions

    async def claim_deliveries(self, claim: Claim) -> list[Delivery]:
        """Lease deliveries that are due."""

        async def look(connection: AsyncConnection) -> bool:
            return await claims.any_due(connection, table, claim)

        async def apply(connection: AsyncConnection) -> list[Delivery]:
            rows = await claims.lease(connection, table, claim)
            read = [(row, _read(row)) for row in rows]
            await _put_off(connection, [row for row, delivery in read if delivery is None], claim.now)
            return [deliveries.claimed(delivery, claim.now, claim.lease_s) for _, delivery in read if delivery]

        if not await self._transactions.read(look):  # most claims find nothing, and none of those writes
            return []
        return await self._transactions.write(apply)

    async def report_delivery(self, report: Report) -> Delivery | None:
        """Note what came of a try."""

        async def apply(connection: AsyncConnection) -> Delivery | None:
            this = (table.c.job_id == report.job_id, table.c.seq == report.seq)
            locked = this[:1] if report.told is Told.GONE else this  # all that it will change, always in one order
            statement = select(table).where(*locked).order_by(table.c.seq).with_for_update()
            rows = (await connection.execute(statement)).mappings().all()
            row = next((row for row in rows if row["seq"] == report.seq), None)
            after = None if row is None else deliveries.reported(_delivery_of(row), report)
            if after is not None:
                await connection.execute(update(table).where(*this).values(_values(after)))
            if after is not None and after.fate is Fate.GONE:
                await _stop(connection, report.job_id)
            return after

        return await self._transactions.write(apply)

    async def deliveries_waiting(self, most: int) -> int:
        """Return how many are not over."""

        async def count(connection: AsyncConnection) -> int:
            waiting = select(table.c.seq).where(table.c.due_at.is_not(None)).limit(most).subquery()
            return int((await connection.execute(select(func.count()).select_from(waiting))).scalar_one())

        return await self._transactions.read(count)


async def queue(connection: AsyncConnection, told: Sequence[tuple[Job, Sequence[NewEvent], int]]) -> None:
    """Write the deliveries of jobs' new events, each job's numbered from what is given, unless its receiver is gone."""
    new = [each for job, events, first in told for each in deliveries.deliveries_of(job, events, first)]
    later = {each.job_id for each in new}.intersection(job.id for job, _, first in told if first > 1)
    gone = await _gone(connection, later) if later else set()
    if rows := [_values(each) for each in new if each.job_id not in gone]:
        await connection.execute(insert(table), rows)


async def _gone(connection: AsyncConnection, job_ids: Collection[str]) -> set[str]:
    found = select(table.c.job_id).where(table.c.job_id.in_(sorted(job_ids)), table.c.fate == Fate.GONE.value)
    return set(await connection.scalars(found.distinct()))


async def forget(connection: AsyncConnection, job_ids: Sequence[str]) -> None:
    """Remove the deliveries of jobs."""
    await connection.execute(delete(table).where(table.c.job_id.in_(job_ids)))


def _read(row: RowMapping) -> Delivery | None:
    """Return the delivery of a row; None when another release wrote what is not understood here."""
    try:
        return _delivery_of(row)
    except (ValueError, TypeError):
        logger.exception("a delivery cannot be read", extra={"job_id": row["job_id"], "seq": row["seq"]})
        return None


async def _put_off(connection: AsyncConnection, rows: Sequence[RowMapping], now: float) -> None:
    """Take rows that nobody here can read out of the way of the others, in the end for good."""
    for row in rows:
        over = now >= row["time"] + tries.TRIED_FOR_S
        later = {"due_at": None, "fate": Fate.DEAD.value} if over else {"due_at": now + tries.LAST_WINDOW_S}
        put_off = update(table).where(*claims.these(table, [row])).values(later | {"reason": "unreadable"})
        await connection.execute(put_off)


async def _stop(connection: AsyncConnection, job_id: JobId) -> None:
    waiting = (table.c.job_id == job_id, table.c.due_at.is_not(None))
    await connection.execute(update(table).where(*waiting).values(due_at=None, fate=Fate.GONE.value))


def _values(delivery: Delivery) -> dict[str, Any]:
    detail = {name: getattr(delivery, name) for name in _DETAIL} | {"labels": dict(delivery.labels)}
    plain = {name: getattr(delivery, name) for name in _PLAIN}
    return plain | {"state": delivery.state.value, "fate": delivery.fate.value, "detail": detail}


def _delivery_of(row: RowMapping) -> Delivery:
    plain = {name: row[name] for name in _PLAIN}
    return Delivery(**plain, **row["detail"], state=JobState(row["state"]), fate=Fate(row["fate"]))
