"""Reading jobs and their parts inside a transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, bindparam, func, literal_column, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.generation.attempt import ImageStored
from libs.ids import JobId, TenantId, WorkerId
from services.scheduler.job import OPEN_STATES, AttemptRecord, Job, JobState
from services.scheduler.storage import sql_rows
from services.scheduler.storage.sql_schema import OPEN, attempts, job_images, jobs, leader
from services.scheduler.storage.store import REQUEST_ID_LIFE_S, Deposed, OpenTotal

VISIBLE = jobs.c.deleted.is_(False)
Statement = Select[*tuple[Any, ...]]

# What every job goes through is built once: building a statement takes longer than running it.
_EPOCH = select(leader.c.epoch).where(leader.c.id == 1).with_for_update(read=True)
_LOCKED = (
    select(jobs).where(jobs.c.id.in_(bindparam("ids", expanding=True)), VISIBLE).order_by(jobs.c.id).with_for_update()
)


async def locked_job(connection: AsyncConnection, job_id: JobId) -> Job | None:
    """Return a job that nobody else changes until this transaction ends. Deleted ones are not there."""
    return (await locked_jobs(connection, [job_id])).get(job_id)


async def locked_jobs(connection: AsyncConnection, ids: Collection[JobId]) -> dict[JobId, Job]:
    """Return jobs that nobody else changes until this transaction ends; locked in order, so that no two wait for ever."""
    return {job.id: job for job in await read_jobs(connection, _LOCKED, {"ids": list(ids)})}


async def read_attempt(connection: AsyncConnection, job_id: JobId, attempt: int) -> AttemptRecord | None:
    """Return one attempt of a job."""
    this = select(attempts).where(attempts.c.job_id == job_id, attempts.c.attempt == attempt)
    row = (await connection.execute(this)).mappings().first()
    return None if row is None else sql_rows.attempt_of(row)


async def read_jobs(
    connection: AsyncConnection, statement: Statement, values: Mapping[str, Any] = MappingProxyType({})
) -> list[Job]:
    """Return the jobs of a statement that selects rows of `jobs`, with their images."""
    return await with_images(connection, (await connection.execute(statement, dict(values))).mappings().all())


async def with_images(connection: AsyncConnection, rows: Sequence[RowMapping]) -> list[Job]:
    """Return the jobs of `rows`, in order. Open jobs have no images, so they are not looked for."""
    waiting = {state.value for state in OPEN_STATES}
    ended = [row["id"] for row in rows if row["state"] not in waiting]
    images: dict[str, list[ImageStored]] = defaultdict(list)
    if ended:
        statement = select(job_images).where(job_images.c.job_id.in_(ended))
        for row in (await connection.execute(statement.order_by(job_images.c.job_id, job_images.c.index))).mappings():
            images[row["job_id"]].append(sql_rows.image_of(row))
    return [sql_rows.job_of(row, images[row["id"]]) for row in rows]


async def check_epoch(connection: AsyncConnection, epoch: int) -> None:
    """Raise Deposed unless `epoch` leads; no other can lead before this transaction ends."""
    current = (await connection.execute(_EPOCH)).scalar_one()
    if current != epoch:
        raise Deposed(f"epoch {epoch} is over, {current} leads")


def by_request(tenant: TenantId, request_id: str, now: float) -> Statement:
    """Select the job that an idempotency key still leads to."""
    return select(jobs).where(
        jobs.c.tenant_id == tenant,
        jobs.c.request_id == request_id,
        jobs.c.created_at > now - REQUEST_ID_LIFE_S,
        VISIBLE,
    )


def open_totals() -> Statement:
    """Select how many jobs and units wait for each model, and run with it on each worker."""
    worker: ColumnElement[str] = literal_column("CASE WHEN state = 'RUNNING' THEN worker ELSE '' END").label(
        "on_worker"
    )
    sums = (func.count().label("jobs"), func.sum(jobs.c.estimated_units).label("units"))
    return select(jobs.c.model_version, worker, *sums).where(OPEN).group_by(jobs.c.model_version, text("on_worker"))


def total_of(row: RowMapping) -> OpenTotal:
    """Return a row of `open_totals`."""
    return OpenTotal(row["model_version"], WorkerId(row["on_worker"]), row["jobs"], float(row["units"]))


def dead_letters(limit: int) -> Statement:
    """Select the latest jobs whose attempts were used up."""
    order = (jobs.c.dead_at.desc(), jobs.c.id.desc())
    return select(jobs).where(jobs.c.dead_at.is_not(None), VISIBLE).order_by(*order).limit(limit)


def oldest_first(behind: Job | None, limit: int | None) -> Statement:
    """Select a page of the open jobs; the index that has just these gives it without a sort."""
    age = tuple_(jobs.c.created_at, jobs.c.id)
    statement = select(jobs).where(OPEN).order_by(jobs.c.created_at, jobs.c.id).limit(limit)
    return statement if behind is None else statement.where(age > (behind.created_at, behind.id))


def newest_first(tenant: TenantId, before: str, limit: int, state: JobState | None) -> Statement:
    """Select a page of a tenant's jobs."""
    statement = select(jobs).where(jobs.c.tenant_id == tenant, VISIBLE).order_by(jobs.c.id.desc()).limit(limit)
    if before:
        statement = statement.where(jobs.c.id < before)
    if state is not None:
        statement = statement.where(jobs.c.state == state.value)
    return statement
