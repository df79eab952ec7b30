"""Writing what a change leaves behind, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.sql.inserts import dialect_insert
from services.scheduler.job import AttemptRecord, Job, OutboxMessage
from services.scheduler.results import sql_blobs
from services.scheduler.storage import changes, sql_rows
from services.scheduler.storage.changes import AttemptEnd, NewEvent, Step
from services.scheduler.storage.sql_schema import attempts, blobs, documents, job_events, job_images, jobs, outbox
from services.scheduler.storage.store import Mark
from services.scheduler.webhooks import sql_deliveries


async def write_step(
    connection: AsyncConnection, before: Job, step: Step, messages: Sequence[OutboxMessage]
) -> Job | None:
    """Write a change of `before`; None, with nothing written, when the row is not in that state and attempt."""
    job = step.job
    compare = (jobs.c.id == job.id, jobs.c.state == before.state.value, jobs.c.attempt == before.attempt)
    written = await connection.execute(update(jobs).where(*compare).values(sql_rows.job_values(job)))
    if written.rowcount != 1:
        return None
    if step.fresh:
        await _begin_anew(connection, job)
    await _write_attempt(connection, job, step.opened, step.closed)
    await write_messages(connection, messages)
    if not step.events:  # nothing happened that its owner is told
        return job
    await write_images(connection, job)
    last = select(func.coalesce(func.max(job_events.c.seq), 0)).where(job_events.c.job_id == job.id)
    first_seq = (await connection.execute(last)).scalar_one() + 1
    await connection.execute(insert(job_events), event_values(job, step.events, first_seq))
    await sql_deliveries.queue(connection, job, step.events, first_seq)
    return job


async def write_messages(connection: AsyncConnection, messages: Sequence[OutboxMessage]) -> None:
    """Add messages to the outbox, due at once."""
    values = [
        {"kind": message.kind, "payload": dict(message.payload), "tries": 0, "due_at": 0.0} for message in messages
    ]
    if values:
        await connection.execute(insert(outbox), values)


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


async def write_images(connection: AsyncConnection, job: Job) -> None:
    """Write the images and keep their blobs at least as long as this job's results. Raises PicturesSwept."""
    if job.images:
        await connection.execute(insert(job_images), sql_rows.image_values(job))
        await sql_blobs.keep(connection, job)


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


async def _begin_anew(connection: AsyncConnection, job: Job) -> None:
    await connection.execute(delete(job_images).where(job_images.c.job_id == job.id))
    nothing = {"checkpoint_ref": "", "checkpoint_step": 0}
    await connection.execute(update(attempts).where(attempts.c.job_id == job.id).values(nothing))


async def _write_attempt(
    connection: AsyncConnection, job: Job, opened: AttemptRecord | None, closed: AttemptEnd | None
) -> None:
    if opened is not None:
        await connection.execute(insert(attempts).values(sql_rows.attempt_values(opened)))
    if closed is not None:
        row = (attempts.c.job_id == job.id, attempts.c.attempt == closed.attempt)
        await connection.execute(update(attempts).where(*row).values(sql_rows.attempt_end_values(closed)))
