"""Removing what is over, in SQL: marked here before its object is deleted, so that no job comes to refer to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scheduler.results.store import TOMBSTONE_S
from services.scheduler.storage import sql_reads
from services.scheduler.storage.sql_schema import attempts, blobs, job_events, job_images, jobs
from services.scheduler.storage.sql_transactions import Transactions
from services.scheduler.webhooks import sql_deliveries


class SqlRetention:
    """The part of the SQL store that forgets."""

    _transactions: Transactions

    async def doom(self, epoch: int, now: float, limit: int) -> list[str]:
        """Mark pictures whose time is over; return those that are marked and not removed."""

        async def apply(connection: AsyncConnection) -> list[str]:
            await sql_reads.check_epoch(connection, epoch)
            over = (blobs.c.expires_at <= now, blobs.c.doomed_at.is_(None))
            ids = select(blobs.c.sha256).where(*over).order_by(blobs.c.sha256).limit(limit).with_for_update()
            hashes = list(await connection.scalars(ids))
            await connection.execute(update(blobs).where(blobs.c.sha256.in_(hashes), *over).values(doomed_at=now))
            doomed = select(blobs.c.sha256).where(blobs.c.doomed_at.is_not(None), blobs.c.removed_at.is_(None))
            return list(await connection.scalars(doomed.limit(limit)))

        return await self._transactions.write(apply)

    async def doom_unknown(self, hashes: Collection[str], epoch: int, now: float) -> None:
        """Mark objects that no job refers to; those that have a row by now stay as they are."""

        async def apply(connection: AsyncConnection) -> None:
            await sql_reads.check_epoch(connection, epoch)
            strangers = await _unknown(connection, hashes)
            rows = [{"sha256": sha, "bytes": 0, "expires_at": now, "doomed_at": now} for sha in strangers]
            if rows:
                await connection.execute(insert(blobs), rows)

        await self._transactions.write(apply)

    async def removed(self, hashes: Collection[str], epoch: int, now: float) -> None:
        """Note that doomed objects are gone, and forget those that have been for long."""

        async def apply(connection: AsyncConnection) -> None:
            await sql_reads.check_epoch(connection, epoch)
            gone = (blobs.c.sha256.in_(hashes), blobs.c.doomed_at.is_not(None))
            await connection.execute(update(blobs).where(*gone).values(removed_at=now))
            await connection.execute(delete(blobs).where(blobs.c.removed_at < now - TOMBSTONE_S))

        await self._transactions.write(apply)

    async def unknown(self, hashes: Collection[str]) -> list[str]:
        """Return which of these pictures no row tells of."""
        return await self._transactions.read(lambda connection: _unknown(connection, hashes))

    async def forget_records(self, epoch: int, before: float, limit: int) -> int:
        """Remove jobs that ended before a moment, with all that is kept of them; return how many."""

        async def apply(connection: AsyncConnection) -> int:
            await sql_reads.check_epoch(connection, epoch)
            old = select(jobs.c.id).where(jobs.c.finished_at < before).order_by(jobs.c.finished_at).limit(limit)
            ids: Sequence[str] = list(await connection.scalars(old))
            for table in (job_events, job_images, attempts):
                await connection.execute(delete(table).where(table.c.job_id.in_(ids)))
            await sql_deliveries.forget(connection, ids)
            await connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
            return len(ids)

        return await self._transactions.write(apply)


async def _unknown(connection: AsyncConnection, hashes: Collection[str]) -> list[str]:
    known = set(await connection.scalars(select(blobs.c.sha256).where(blobs.c.sha256.in_(hashes))))
    return sorted({*hashes} - known)
