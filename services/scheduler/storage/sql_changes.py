"""Changes of jobs that exist, many in one transaction, with as many statements for a hundred as for one.

Each job's row is locked before it is asked what becomes of it, so nobody else changes it until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId
from services.scheduler.job import Job, OutboxMessage
from services.scheduler.storage import sql_reads, sql_writes
from services.scheduler.storage.changes import Step
from services.scheduler.storage.sql_writes import Written


@dataclass(frozen=True, slots=True)
class Wanted:
    """A change that a leader of `epoch` wants; `change` returns None when it does not apply to the job as it is."""

    job_id: JobId
    epoch: int
    change: Callable[[Job], Step | None]
    messages: tuple[OutboxMessage, ...] = ()


async def apply(connection: AsyncConnection, wanted: Sequence[Wanted]) -> list[Job | None]:
    """Make the changes; return each job as it is then, None where the change did not apply. Raises Deposed."""
    for epoch in {each.epoch for each in wanted}:
        await sql_reads.check_epoch(connection, epoch)
    answers: list[Job | None] = [None] * len(wanted)
    left = list(range(len(wanted)))
    while left:
        first = {wanted[index].job_id: index for index in reversed(left)}  # of each job the first that is left
        now = sorted(first.values())
        for index, job in zip(now, await _apply([wanted[index] for index in now], connection), strict=True):
            answers[index] = job
        left = [index for index in left if first[wanted[index].job_id] != index]
    return answers


async def _apply(wanted: Sequence[Wanted], connection: AsyncConnection) -> list[Job | None]:
    """Make changes of different jobs."""
    before = await sql_reads.locked_jobs(connection, [each.job_id for each in wanted])
    steps = [each.change(before[each.job_id]) if each.job_id in before else None for each in wanted]
    written = [Written(step, each.messages) for each, step in zip(wanted, steps, strict=True) if step is not None]
    if written:
        await sql_writes.write_steps(connection, written)
    return [None if step is None else step.job for step in steps]
