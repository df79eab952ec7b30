"""Writing what a change leaves behind, inside the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId
from libs.sql.inserts import dialect_insert
from services.scheduler.job import Job, OutboxMessage
from services.scheduler.results import sql_blobs
from services.scheduler.storage import changes, sql_rows
from services.scheduler.storage.changes import AttemptEnd, NewEvent, Step
from services.scheduler.storage.sql_schema import attempts, blobs, documents, job_events, job_images, jobs, outbox
from services.scheduler.storage.wishes import Mark
from services.scheduler.webhooks import sql_deliveries


@dataclass(frozen=True, slots=True)
class Written:
    """A change of a job, with the messages that go with it; `before` is its row as it stands, if that is known."""

    step: Step
    messages: Sequence[OutboxMessage] = ()
    before: Job | None = None


# What every job goes through is built once: building a statement takes longer than running it.
ADD_JOBS, ADD_EVENTS = insert(jobs), insert(job_events)
_ADD_ATTEMPTS, _ADD_IMAGES, _ADD_MESSAGES = insert(attempts), insert(job_images), insert(outbox)
_UPDATE_JOB = update(jobs).where(jobs.c.id == bindparam("key"))
_END_ATTEMPT = update(attempts).where(attempts.c.job_id == bindparam("key"), attempts.c.attempt == bindparam("number"))

_LAST_SEQS = (
    select(job_events.c.job_id, func.max(job_events.c.seq))
    .where(job_events.c.job_id.in_(bindparam("ids", expanding=True)))
    .group_by(job_events.c.job_id)
)


async def write_step(connection: AsyncConnection, step: Step, messages: Sequence[OutboxMessage]) -> Job:
    """Write a change of a job whose row is locked; returns the job as it is then."""
    await write_steps(connection, [Written(step, messages)])
    return step.job


async def write_steps(connection: AsyncConnection, written: Sequence[Written]) -> None:
    """Write changes of different jobs whose rows are locked. Raises PicturesSwept."""
    steps = [each.step for each in written]
    await _update_jobs(connection, written)
    await _begin_anew(connection, [step.job.id for step in steps if step.fresh])
    await _write_attempts(connection, steps)
    await write_messages(connection, [message for each in written for message in each.messages])
    await _write_events(connection, [step for step in steps if step.events])  # else nothing that its owner is told


async def _update_jobs(connection: AsyncConnection, written: Sequence[Written]) -> None:
    """Write what differs, jobs of which the same columns differ together."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for each in written:
        job = each.step.job
        row = sql_rows.changed_values(each.before, job) if each.before else sql_rows.job_values(job)
        row.pop("id", None)
        groups[tuple(row)].append({"key": job.id} | row)
    for columns, rows in groups.items():
        if columns:
            await connection.execute(_UPDATE_JOB, rows)


async def _write_events(connection: AsyncConnection, steps: Sequence[Step]) -> None:
    if not steps:
        return
    await write_images(connection, [step.job for step in steps])
    ids = [step.job.id for step in steps]
    seqs = {row[0]: row[1] for row in await connection.execute(_LAST_SEQS, {"ids": ids})}
    firsts = [seqs.get(job_id, 0) + 1 for job_id in ids]
    numbered = list(zip(steps, firsts, strict=True))
    rows = [row for step, first in numbered for row in event_values(step.job, step.events, first)]
    await connection.execute(ADD_EVENTS, rows)
    await sql_deliveries.queue(connection, [(step.job, step.events, first) for step, first in numbered])


async def write_messages(connection: AsyncConnection, messages: Sequence[OutboxMessage]) -> None:
    """Add messages to the outbox, due at once."""
    values = [
        {"kind": message.kind, "payload": dict(message.payload), "tries": 0, "due_at": 0.0} for message in messages
    ]
    if values:
        await connection.execute(_ADD_MESSAGES, values)


def event_values(job: Job, events: Sequence[NewEvent], first_seq: int) -> list[dict[str, Any]]:
    """Return the rows of a job's new events, numbered from `first_seq`."""
    return [
        {"job_id": job.id, "seq": seq, "kind": event.kind, "time": event.time, "payload": dict(event.payload)}
        for seq, event in enumerate(events, start=first_seq)
    ]


async def forget(connection: AsyncConnection, job: Job, now: float, *, spare: bool) -> tuple[str, ...]:
    """Remove what a job's owner wrote and drew; mark and return the pictures that nobody refers to any more."""
    hashes = sorted({image.sha256 for image in job.images})
    values = sql_rows.job_values(changes.forgotten(job)) | {"deleted": True}
    await connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))
    await connection.execute(delete(job_events).where(job_events.c.job_id == job.id))
    await sql_deliveries.forget(connection, [job.id])
    # A job that ends with the same picture just now must be seen, or must come after us.
    locking = select(blobs.c.sha256).where(blobs.c.sha256.in_(hashes)).order_by(blobs.c.sha256).with_for_update()
    await connection.execute(locking)
    await connection.execute(delete(job_images).where(job_images.c.job_id == job.id))
    kept = set(await connection.scalars(select(job_images.c.sha256).where(job_images.c.sha256.in_(hashes))))
    return await sql_blobs.let_go(connection, [sha256 for sha256 in hashes if sha256 not in kept], now, spare=spare)


async def write_images(connection: AsyncConnection, written: Sequence[Job]) -> None:
    """Write the images of jobs and keep their blobs at least as long as the jobs' results. Raises PicturesSwept."""
    drawn = [job for job in written if job.images]
    if drawn:
        await connection.execute(_ADD_IMAGES, [row for job in drawn for row in sql_rows.image_values(job)])
        await sql_blobs.keep(connection, drawn)


async def write_mark(connection: AsyncConnection, mark: Mark) -> bool:
    """Write an attempt's checkpoint unless it does not run any more or is as far already."""
    this = (attempts.c.job_id == mark.job_id, attempts.c.attempt == mark.attempt)
    runs = (attempts.c.outcome == changes.RUNNING_OUTCOME, attempts.c.checkpoint_step < mark.step)
    values = {"checkpoint_ref": mark.ref, "checkpoint_step": mark.step}
    written = await connection.execute(update(attempts).where(*this, *runs).values(values))
    return written.rowcount == 1


async def save_document(connection: AsyncConnection, name: str, body: dict[str, Any]) -> None:
    """Write a document over the one of the same name."""
    statement = dialect_insert(connection, documents)
    replacing = statement.on_conflict_do_update(index_elements=["name"], set_={"body": statement.excluded.body})
    await connection.execute(replacing, {"name": name, "body": body})


async def rename_document(connection: AsyncConnection, name: str, new_name: str) -> None:
    """Give a document another name, unread, in the place of what has that name."""
    there = select(documents.c.name).where(documents.c.name == name).exists()
    await connection.execute(delete(documents).where(documents.c.name == new_name, there))
    await connection.execute(update(documents).where(documents.c.name == name).values(name=new_name))


async def _begin_anew(connection: AsyncConnection, job_ids: Sequence[JobId]) -> None:
    if not job_ids:
        return
    await connection.execute(delete(job_images).where(job_images.c.job_id.in_(job_ids)))
    nothing = {"checkpoint_ref": "", "checkpoint_step": 0}
    await connection.execute(update(attempts).where(attempts.c.job_id.in_(job_ids)).values(nothing))


async def _write_attempts(connection: AsyncConnection, steps: Sequence[Step]) -> None:
    opened = [sql_rows.attempt_values(step.opened) for step in steps if step.opened is not None]
    closed = [_end_values(step.job, step.closed) for step in steps if step.closed is not None]
    if opened:
        await connection.execute(_ADD_ATTEMPTS, opened)
    if closed:
        await connection.execute(_END_ATTEMPT, closed)


def _end_values(job: Job, closed: AttemptEnd) -> dict[str, Any]:
    values = sql_rows.attempt_end_values(closed)
    return {"key": job.id, "number": values.pop("attempt")} | values
