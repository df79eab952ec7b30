"""Giving results again, in SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId
from services.scheduler.job import OPEN_STATES, Job, JobState
from services.scheduler.results import reuse, takeover
from services.scheduler.results.shelf import Shelf
from services.scheduler.results.store import HandOver
from services.scheduler.storage import sql_reads, sql_writes
from services.scheduler.storage.sql_schema import CACHEABLE, DRAWN_BY, blobs, jobs
from services.scheduler.storage.sql_transactions import Transactions

_USEFUL = [state.value for state in (*OPEN_STATES, JobState.SUCCEEDED)]
_ALIKE = (  # built once: every job that comes asks so
    select(jobs)
    .where(
        jobs.c.cache_key.in_(bindparam("keys", expanding=True)),
        *(CACHEABLE, jobs.c.cache == reuse.MISS, jobs.c.state.in_(_USEFUL), sql_reads.VISIBLE),
    )
    .order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
)


class SqlResults:
    """The part of the SQL store that gives results again."""

    _transactions: Transactions

    async def follow(self, job_id: JobId, epoch: int, now: float) -> Job | None:
        """Bring a joiner to the end of its run, or set it free."""

        async def apply(connection: AsyncConnection) -> Job | None:
            await sql_reads.check_epoch(connection, epoch)
            joiner = await sql_reads.locked_job(connection, job_id)
            if joiner is None or not reuse.waits_for_a_run(joiner):
                return None
            return await _follow(connection, joiner, now)

        return await self._transactions.write(apply)

    async def hand_over(self, order: HandOver) -> tuple[Job, Job] | None:
        """Cancel a running job and make its heir the runner."""

        async def apply(connection: AsyncConnection) -> tuple[Job, Job] | None:
            await sql_reads.check_epoch(connection, order.epoch)
            return await _hand_over(connection, order)

        return await self._transactions.write(apply)


async def shelf_for(connection: AsyncConnection, asked: Sequence[Job], others: Collection[str] = ()) -> Shelf:
    """Return what lies there for jobs that ask, with its pictures held until this transaction ends.

    `others` are pictures that the transaction changes besides: all are held at once, in order.
    """
    keys = sorted({job.cache_key for job in asked if job.cache_key})
    if not keys:
        return Shelf()
    found = await _alike(connection, keys)
    return Shelf(found, await _kept(connection, found, others))


async def _alike(connection: AsyncConnection, keys: Collection[str]) -> list[Job]:
    """Return drawn and open jobs of keys, the newest first. Joiners and hits are not among them."""
    return await sql_reads.read_jobs(connection, _ALIKE, {"keys": list(keys)})


async def _kept(
    connection: AsyncConnection, found: Sequence[Job], others: Collection[str] = ()
) -> dict[str, float | None]:
    """Return until when pictures are kept, of those that are there; nobody removes them before this transaction ends."""
    hashes = {image.sha256 for job in found for image in job.images}
    if not hashes:
        return {}
    there = select(blobs.c.sha256, blobs.c.expires_at, blobs.c.doomed_at).where(
        blobs.c.sha256.in_(sorted(hashes.union(others)))
    )
    rows = await connection.execute(there.order_by(blobs.c.sha256).with_for_update())
    return {row.sha256: row.expires_at for row in rows if row.doomed_at is None}


async def _follow(connection: AsyncConnection, joiner: Job, now: float) -> Job | None:
    found = await sql_reads.read_jobs(connection, select(jobs).where(jobs.c.id == joiner.drawn_by, sql_reads.VISIBLE))
    run = found[0] if found else None
    if run is not None and run.open and run.cache == reuse.MISS:
        return None
    written = reuse.followed(joiner, run, now)
    if written is not None and run is not None:
        kept = await _kept(connection, [run])
        if all(image.sha256 in kept for image in run.images):
            return await sql_writes.write_step(connection, written.step, written.outbox)
    alike = await _alike(connection, [joiner.cache_key]) if joiner.cache_key else []
    step = reuse.released(joiner, alike, now)
    return await sql_writes.write_step(connection, step, ())


async def _hand_over(connection: AsyncConnection, order: HandOver) -> tuple[Job, Job] | None:
    locked = {job_id: await sql_reads.locked_job(connection, job_id) for job_id in sorted((order.job_id, order.heir))}
    attempt = await sql_reads.read_attempt(connection, order.job_id, order.attempt)
    taken = takeover.handed_over(locked[order.job_id], locked[order.heir], attempt, order)
    if taken is None:
        return None
    for _, step, outbox in taken:
        await sql_writes.write_step(connection, step, outbox)
    waiting = (jobs.c.drawn_by == order.job_id, DRAWN_BY, jobs.c.state == JobState.QUEUED.value)
    await connection.execute(update(jobs).where(*waiting).values(drawn_by=order.heir))
    return taken[0][1].job, taken[1][1].job
