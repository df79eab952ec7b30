"""Changes of jobs that exist, many in one transaction, with as many statements for a hundred as for one.

Each job's row is locked before it is asked what becomes of it, so nobody else changes it until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Held:
    """Changes by their place, whose jobs are locked: what comes of the first of each job, and those that come later."""

    before: Mapping[int, Job]
    steps: Mapping[int, Step | None]
    messages: Mapping[int, tuple[OutboxMessage, ...]]
    later: dict[int, Wanted]

    @property
    def pictures(self) -> set[str]:
        """The pictures that will be kept."""
        return {image.sha256 for step in self.steps.values() if step is not None for image in step.job.images}


async def hold(connection: AsyncConnection, wanted: Sequence[Wanted]) -> Held:
    """Lock the jobs and see what the changes make of them, writing nothing. Raises Deposed."""
    for epoch in {each.epoch for each in wanted}:
        await sql_reads.check_epoch(connection, epoch)
    return await _hold(connection, dict(enumerate(wanted)))


async def apply(connection: AsyncConnection, held: Held) -> list[Job | None]:
    """Make the changes; return each job as it is then, None where the change did not apply."""
    answers: dict[int, Job | None] = {}
    while held.steps:
        made = [(place, step) for place, step in held.steps.items() if step is not None]
        written = [Written(step, held.messages[place], held.before[place]) for place, step in made]
        if written:
            await sql_writes.write_steps(connection, written)
        answers |= {place: None if step is None else step.job for place, step in held.steps.items()}
        held = await _hold(connection, held.later)
    return [answers[place] for place in sorted(answers)]


async def _hold(connection: AsyncConnection, wanted: dict[int, Wanted]) -> Held:
    if not wanted:
        return Held({}, {}, {}, {})
    first = {each.job_id: place for place, each in reversed(wanted.items())}
    now = {place: each for place, each in wanted.items() if first[each.job_id] == place}
    locked = await sql_reads.locked_jobs(connection, list(first))
    before = {place: locked[each.job_id] for place, each in now.items() if each.job_id in locked}
    steps = {place: each.change(before[place]) if place in before else None for place, each in now.items()}
    messages = {place: each.messages for place, each in now.items()}
    return Held(before, steps, messages, {place: each for place, each in wanted.items() if place not in now})
