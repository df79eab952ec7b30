"""Which pictures lie and until when, in SQL: kept by jobs that end, doomed and forgotten by the sweep."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Executable, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.sql.inserts import insert_of
from services.scheduler.job import Job
from services.scheduler.results.store import REMOVAL_MARGIN_S, PicturesSwept
from services.scheduler.storage.sql_schema import attempts, blobs


async def keep(connection: AsyncConnection, drawn: Sequence[Job]) -> None:
    """Keep the pictures of jobs at least as long as their results.

    Raises PicturesSwept when one is being removed: the worker may have found it there and not stored it again. One
    that was gone before the attempt began was stored anew.
    """
    rows: dict[str, dict[str, Any]] = {}
    for job in sorted(drawn, key=_until):  # of two that have the same picture the one that keeps it longer counts
        rows |= {row["sha256"]: row for row in _rows(job)}
    kept = await _upsert(connection, [rows[sha] for sha in sorted(rows)], _KEEP[connection.dialect.name])
    for job in drawn:
        doomed = [row for row in _rows(job) if row["sha256"] not in kept]
        if doomed:
            await _revive(connection, job, doomed)


def _until(job: Job) -> float:
    return math.inf if job.expires_at is None else job.expires_at


def _rows(job: Job) -> list[dict[str, Any]]:
    sizes = {image.sha256: image.size_bytes for image in job.images}
    return [{"sha256": sha, "bytes": sizes[sha], "expires_at": job.expires_at} for sha in sorted(sizes)]


async def _revive(connection: AsyncConnection, job: Job, doomed: Sequence[dict[str, Any]]) -> None:
    this = (attempts.c.job_id == job.id, attempts.c.attempt == job.attempt)
    began_at = (await connection.execute(select(attempts.c.started_at).where(*this))).scalar() or 0.0
    stored_anew = or_(blobs.c.doomed_at.is_(None), blobs.c.removed_at < began_at - REMOVAL_MARGIN_S)
    anew = await _upsert(connection, doomed, _keeping(connection.dialect.name, stored_anew))
    if len(anew) < len(doomed):
        raise PicturesSwept(f"pictures of {job.id} are being removed")


async def let_go(connection: AsyncConnection, hashes: Collection[str], now: float, *, spare: bool) -> tuple[str, ...]:
    """Mark pictures that nobody refers to, or forget them; return those that are marked by this."""
    lying = (blobs.c.sha256.in_(hashes), blobs.c.doomed_at.is_(None))
    if spare:
        await connection.execute(delete(blobs).where(*lying))
        return ()
    marked = update(blobs).where(*lying).values(doomed_at=now)
    return tuple(sorted(await connection.scalars(marked.returning(blobs.c.sha256))))


async def _upsert(connection: AsyncConnection, rows: Sequence[dict[str, Any]], keeping: Executable) -> Collection[str]:
    return set(await connection.scalars(keeping, list(rows)))


def _keeping(dialect: str, where: ColumnElement[bool]) -> Executable:
    """Return the statement that keeps pictures and returns which; of those that lie there already, where it says so."""
    statement = insert_of(dialect, blobs)
    later = func.max if dialect == "sqlite" else func.greatest
    mine, theirs = statement.excluded.expires_at, blobs.c.expires_at
    kept = case((or_(mine.is_(None), theirs.is_(None)), None), else_=later(mine, theirs))
    upsert = statement.on_conflict_do_update(
        index_elements=["sha256"],
        set_={"expires_at": kept, "doomed_at": None, "removed_at": None},
        where=where,
    )
    return upsert.returning(blobs.c.sha256)


# Every job that ends goes through it: it is built once, which takes longer than running it.
_KEEP = {dialect: _keeping(dialect, blobs.c.doomed_at.is_(None)) for dialect in ("sqlite", "postgresql")}
