"""The durable queue in SQL: one store for SQLite and PostgreSQL.

A change locks its job's row, asks `changes` what becomes of it and writes that, all in one transaction; what arrives
while a transaction is committed goes together into the next (group_commit, sql_group). Writes of the leader lock the
leader's row first, so no other can take over before they are committed or undone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, cast

from sqlalchemy import Executable, RowMapping, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId, TenantId
from libs.sql.addresses import is_sqlite
from libs.sql.engines import Engines, open_engines
from services.scheduler.job import AttemptRecord, DurableEvent, Job, JobState, OutboxMessage
from services.scheduler.operators.alterations import altered
from services.scheduler.replicas import sql_lead
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.replicas.sql_lead import SqlLead
from services.scheduler.results.reuse import Terms
from services.scheduler.results.sql_results import SqlResults
from services.scheduler.results.sql_retention import SqlRetention
from services.scheduler.storage import changes, sql_group, sql_reads, sql_rows, sql_writes
from services.scheduler.storage.changes import Step
from services.scheduler.storage.group_commit import CAPACITY, GroupCommit
from services.scheduler.storage.sql_accept import Offer
from services.scheduler.storage.sql_changes import Wanted
from services.scheduler.storage.sql_group import Answer, Delivered, Item
from services.scheduler.storage.sql_schema import attempts, documents, job_events, jobs, outbox
from services.scheduler.storage.sql_transactions import Transactions
from services.scheduler.storage.store import OpenTotal, PendingMessage
from services.scheduler.storage.wishes import Accepted, Alteration, Ending, Mark, Requeue, Start
from services.scheduler.webhooks.sql_deliveries import SqlDeliveries

_POSTGRES_TIMEOUT_S = 1.0
_SQLITE_TIMEOUT_S = 5.0  # nobody can be away: only the disk or another process's write can be slow
_LOCK_TIMEOUT_S = 0.3  # less than PostgreSQL takes to look for a deadlock (1 s), which is all the time a call has
_SCAN_TIMEOUT_S = 60.0  # reading every open job of a long queue
_TRIES = 3  # each is lost only to another process that accepted one of the same keys


class SqlStore(SqlResults, SqlRetention, SqlDeliveries, SqlLead):
    """The JobStore on SQLAlchemy. The tables must be there: see `migrations.upgrade`."""

    def __init__(self, engines: Engines, queue_capacity: int = CAPACITY) -> None:
        super().__init__(Transactions(engines))
        self._writing: GroupCommit[Item, Answer] = GroupCommit(self._write_group, queue_capacity)

    async def accept(self, job: Job, outbox: Sequence[OutboxMessage], epoch: int = NOBODY) -> Accepted:
        """Commit a new job together with others that arrive now; raises Unavailable (QUEUE_FULL) when too many do."""
        return cast("Accepted", await self._writing.submit(Offer(job, tuple(outbox), epoch)))

    async def accept_reusing(
        self, job: Job, outbox: Sequence[OutboxMessage], terms: Terms, epoch: int = NOBODY
    ) -> Accepted:
        """Accept a job that others may answer."""
        return cast("Accepted", await self._writing.submit(Offer(job, tuple(outbox), epoch, terms)))

    async def find_request(self, tenant: TenantId, request_id: str, now: float) -> Job | None:
        """Return the job of an idempotency key that is not too old."""
        return next(iter(await self._jobs(sql_reads.by_request(tenant, request_id, now))), None)

    async def get(self, job_id: JobId, tenant: TenantId | None = None) -> Job | None:
        """Return a job; None when it is unknown, deleted or of another tenant."""
        found = await self._jobs(select(jobs).where(jobs.c.id == job_id, sql_reads.VISIBLE))
        return next((job for job in found if tenant in (None, job.tenant_id)), None)

    async def list_jobs(self, tenant: TenantId, before: str, limit: int, state: JobState | None) -> list[Job]:
        """Return jobs newest first."""
        return await self._jobs(sql_reads.newest_first(tenant, before, limit, state))

    async def attempts(self, job_id: JobId) -> list[AttemptRecord]:
        """Return a job's attempts in order."""
        mine = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.attempt)
        return [sql_rows.attempt_of(row) for row in await self._rows(mine)]

    async def events(self, job_id: JobId, after_seq: int) -> list[DurableEvent]:
        """Return a job's events with seq above `after_seq`."""
        mine = select(job_events).where(job_events.c.job_id == job_id, job_events.c.seq > after_seq)
        return [sql_rows.event_of(row) for row in await self._rows(mine.order_by(job_events.c.seq))]

    async def start(self, start: Start) -> Job | None:
        """Make a queued job RUNNING."""
        return await self._change(start.job_id, start.epoch, lambda job: changes.started(job, start))

    async def end(self, ending: Ending) -> Job | None:
        """Bring a job to its final state."""
        return await self._change(
            ending.job_id, ending.epoch, lambda job: changes.ended(job, ending), messages=ending.outbox
        )

    async def requeue(self, requeue: Requeue) -> Job | None:
        """Close the attempt and queue the job again."""
        return await self._change(requeue.job_id, requeue.epoch, lambda job: changes.requeued(job, requeue))

    async def alter(self, alteration: Alteration) -> Job | None:
        """Bring a dead letter back, forget it, or give a waiting job another model."""
        job_id, epoch, outbox = alteration.job_id, alteration.epoch, alteration.outbox
        return await self._change(job_id, epoch, lambda job: altered(job, alteration), messages=outbox)

    async def dead_letters(self, limit: int) -> list[Job]:
        """Return the jobs whose attempts were used up."""
        return await self._jobs(sql_reads.dead_letters(limit))

    async def mark(self, mark: Mark) -> bool:
        """Keep an attempt's checkpoint."""

        async def write(connection: AsyncConnection) -> bool:
            await sql_reads.check_epoch(connection, mark.epoch)
            return await sql_writes.write_mark(connection, mark)

        return await self._transactions.write(write)

    async def request_cancel(self, job_id: JobId, tenant: TenantId, epoch: int = NOBODY) -> Job | None:
        """Mark an open job for cancelling."""

        async def mark(connection: AsyncConnection) -> Job | None:
            led = await sql_lead.leads(connection, epoch)
            job = await sql_reads.locked_job(connection, job_id)
            if job is None or job.tenant_id != tenant:
                return None
            marked = changes.cancel_requested(job)
            flag = update(jobs).where(jobs.c.id == job_id).values(cancel_requested=marked.cancel_requested)
            await connection.execute(flag)
            await sql_lead.leave_notes(connection, [] if led else [job_id])
            return marked

        return await self._transactions.write(mark)

    async def delete(
        self, job_id: JobId, tenant: TenantId, now: float, *, spare: bool = False
    ) -> tuple[str, ...] | None:
        """Forget an ended job; mark and return the pictures that nobody refers to any more."""

        async def forget(connection: AsyncConnection) -> tuple[str, ...] | None:
            job = await sql_reads.locked_job(connection, job_id)
            if job is None or job.tenant_id != tenant:
                return None
            return await sql_writes.forget(connection, job, now, spare=spare)

        return await self._transactions.write(forget)

    async def open_jobs(self, behind: Job | None = None, limit: int | None = None) -> list[Job]:
        """Return QUEUED and RUNNING jobs, oldest first."""
        return await self._jobs(sql_reads.oldest_first(behind, limit), _SCAN_TIMEOUT_S)

    async def open_totals(self) -> list[OpenTotal]:
        """Return how much waits and runs, in no order."""
        return [sql_reads.total_of(row) for row in await self._rows(sql_reads.open_totals())]

    async def pending_messages(self, limit: int, now: float) -> list[PendingMessage]:
        """Return messages that are due, oldest first."""
        due = select(outbox).where(outbox.c.due_at <= now).order_by(outbox.c.id).limit(limit)
        return [sql_rows.message_of(row) for row in await self._rows(due)]

    async def messages_sent(self, ids: Sequence[int]) -> None:
        """Remove messages that have arrived."""
        await self._writing.submit(Delivered(tuple(ids)), refusable=False)

    async def message_failed(self, message_id: int, retry_at: float) -> None:
        """Count a try."""
        this = update(outbox).where(outbox.c.id == message_id)
        await self._execute(this.values(tries=outbox.c.tries + 1, due_at=retry_at))

    async def save_document(self, name: str, document: dict[str, Any], epoch: int) -> None:
        """Keep a document."""

        async def write(connection: AsyncConnection) -> None:
            await sql_reads.check_epoch(connection, epoch)
            await sql_writes.save_document(connection, name, document)

        await self._transactions.write(write)

    async def rename_document(self, name: str, new_name: str, epoch: int) -> None:
        """Give a document another name."""

        async def write(connection: AsyncConnection) -> None:
            await sql_reads.check_epoch(connection, epoch)
            await sql_writes.rename_document(connection, name, new_name)

        await self._transactions.write(write)

    async def load_document(self, name: str) -> dict[str, Any] | None:
        """Return a document."""
        found = await self._rows(select(documents).where(documents.c.name == name))
        return dict(found[0]["body"]) if found else None

    async def ping(self) -> None:
        """Return when the database answers."""
        await self._rows(select(literal(1)))

    async def close(self) -> None:
        """Let what is being accepted or written finish and give every connection back."""
        await self._writing.close()
        await self._transactions.close()

    async def _write_group(self, items: Sequence[Item]) -> list[Answer]:
        for _ in range(_TRIES - 1):
            with contextlib.suppress(IntegrityError):
                return await self._try_write(items)
        return await self._try_write(items)

    async def _try_write(self, items: Sequence[Item]) -> list[Answer]:
        return await self._transactions.write(lambda connection: sql_group.write(connection, items))

    async def _change(
        self,
        job_id: JobId,
        epoch: int,
        change: Callable[[Job], Step | None],
        messages: Sequence[OutboxMessage] = (),
    ) -> Job | None:
        wanted = Wanted(job_id, epoch, change, tuple(messages))
        return cast("Job | None", await self._writing.submit(wanted, refusable=False))

    async def _execute(self, statement: Executable) -> None:
        await self._transactions.write(lambda connection: connection.execute(statement))

    async def _rows(self, statement: Executable) -> Sequence[RowMapping]:
        async def fetch(connection: AsyncConnection) -> Sequence[RowMapping]:
            return (await connection.execute(statement)).mappings().all()

        return await self._transactions.read(fetch)

    async def _jobs(self, statement: sql_reads.Statement, timeout_s: float | None = None) -> list[Job]:
        return await self._transactions.read(lambda connection: sql_reads.read_jobs(connection, statement), timeout_s)


def open_store(url: str) -> SqlStore:
    """Return the store of a database URL; it connects on first use."""
    timeout_s = _SQLITE_TIMEOUT_S if is_sqlite(url) else _POSTGRES_TIMEOUT_S
    application = "darkroom-scheduler"
    return SqlStore(open_engines(url, timeout_s=timeout_s, application=application, lock_timeout_s=_LOCK_TIMEOUT_S))
