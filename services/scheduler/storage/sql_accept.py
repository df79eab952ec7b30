"""Accepting a group of jobs in one transaction, each at most once by its id and its idempotency key."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import String, and_, bindparam, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId, TenantId
from services.scheduler.job import Job, OutboxMessage
from services.scheduler.replicas import sql_lead
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.results import sql_results
from services.scheduler.results.reuse import Terms
from services.scheduler.results.shelf import Shelf
from services.scheduler.storage import sql_reads, sql_rows, sql_writes
from services.scheduler.storage.changes import Step
from services.scheduler.storage.sql_schema import jobs
from services.scheduler.storage.store import REQUEST_ID_LIFE_S
from services.scheduler.storage.wishes import Accepted
from services.scheduler.webhooks import sql_deliveries

RequestKey = tuple[TenantId, str]
_SAME_ID = select(jobs).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
# SQLite looks at every row for a list of pairs; for a table of them it uses the index.
_PAIRS = func.json_each(bindparam("keys", type_=String())).table_valued("value")
_OF_PAIR = (
    jobs.c.tenant_id == func.json_extract(_PAIRS.c.value, "$[0]"),
    jobs.c.request_id == func.json_extract(_PAIRS.c.value, "$[1]"),
)
_SAME_KEY_SQLITE = select(jobs).select_from(_PAIRS.join(jobs, and_(*_OF_PAIR)))
_SAME_KEY = select(jobs).where(tuple_(jobs.c.tenant_id, jobs.c.request_id).in_(bindparam("keys", expanding=True)))


@dataclass(frozen=True, slots=True)
class Offer:
    """A job to accept, with the messages that go with it, by a leader of `epoch`."""

    job: Job
    outbox: tuple[OutboxMessage, ...]
    epoch: int = NOBODY
    terms: Terms | None = None  # on which another job's pictures may answer it


@dataclass(slots=True)
class _Known:
    """Jobs that stand, by id and by idempotency key; `stale` hold a key that has outlived its time."""

    by_id: dict[JobId, Job] = field(default_factory=dict)
    by_request: dict[RequestKey, Job] = field(default_factory=dict)
    stale: list[JobId] = field(default_factory=list)

    def add(self, job: Job) -> None:
        self.by_id[job.id] = job
        if job.request_id:
            self.by_request[job.tenant_id, job.request_id] = job

    def find(self, job: Job) -> Job | None:
        """Return the job that stands for `job`, noting one whose key is free again."""
        earlier = self.by_request.get((job.tenant_id, job.request_id))
        if earlier is not None and earlier.created_at <= job.created_at - REQUEST_ID_LIFE_S:
            self.stale.append(earlier.id)
            earlier = None
        return self.by_id.get(job.id) or earlier


@dataclass(frozen=True, slots=True)
class There:
    """What is there already for offers."""

    known: _Known
    shelf: Shelf


async def look(connection: AsyncConnection, offers: Sequence[Offer], others: Collection[str] = ()) -> There:
    """Return what is there for offers; holds its pictures, together with `others` that the transaction changes."""
    known = await _known(connection, [offer.job for offer in offers])
    return There(known, await sql_results.shelf_for(connection, [each.job for each in offers if each.terms], others))


async def accept(connection: AsyncConnection, offers: Sequence[Offer], there: There) -> list[Accepted]:
    """Write the jobs that are new with their events and messages; return what stands for each offer.

    Raises IntegrityError when another process accepts the same key at this moment: then all is to be done again.
    """
    known, shelf = there.known, there.shelf
    answers: list[Accepted] = []
    steps: list[Step] = []
    messages: list[OutboxMessage] = []
    for offer in offers:
        existing = known.find(offer.job)
        if existing is None:
            written = shelf.accept(offer.job, offer.terms, offer.outbox)
            step = written.step
            known.add(step.job)
            steps.append(step)
            messages.extend(written.outbox)
        answers.append(Accepted(existing or step.job, existing=existing is not None))
    if known.stale:
        await connection.execute(update(jobs).where(jobs.c.id.in_(known.stale)).values(request_id=None))
    if steps:
        steps.sort(key=_lock_order)
        events = [row for step in steps for row in sql_writes.event_values(step.job, step.events, 1)]
        await connection.execute(sql_writes.ADD_JOBS, [sql_rows.job_values(step.job) for step in steps])
        await connection.execute(sql_writes.ADD_EVENTS, events)
        await sql_writes.write_images(connection, [step.job for step in steps])
        await sql_deliveries.queue(connection, [(step.job, step.events, 1) for step in steps])
        await sql_writes.write_messages(connection, messages)
        if not await sql_lead.leads(connection, min(offer.epoch for offer in offers)):
            await sql_lead.leave_notes(connection, [step.job.id for step in steps])
    return answers


def _lock_order(step: Step) -> RequestKey:
    """Order in which keys are taken, the same in every process, so that two groups never wait for each other."""
    return step.job.tenant_id, step.job.request_id


async def _known(connection: AsyncConnection, offered: Sequence[Job]) -> _Known:
    ids = [job.id for job in offered]
    keys = [(job.tenant_id, job.request_id) for job in offered if job.request_id]
    known = _Known()
    found = await sql_reads.read_jobs(connection, _SAME_ID, {"ids": ids})
    found += await _of_keys(connection, keys) if keys else []
    for job in found:
        known.add(job)
    return known


async def _of_keys(connection: AsyncConnection, keys: Sequence[RequestKey]) -> list[Job]:
    if connection.dialect.name == "sqlite":
        return await sql_reads.read_jobs(connection, _SAME_KEY_SQLITE, {"keys": json.dumps(keys)})
    return await sql_reads.read_jobs(connection, _SAME_KEY, {"keys": keys})
