"""What goes into one transaction when it arrives together: new jobs, changes of jobs, messages that were delivered.

Every group locks in the same order, so that no two wait for each other: the leader's row, jobs, pictures, and last the
keys of new jobs. So the jobs to change are locked first, and all pictures that lie there at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from services.scheduler.job import Job
from services.scheduler.storage import sql_accept, sql_changes
from services.scheduler.storage.sql_accept import Offer
from services.scheduler.storage.sql_changes import Wanted
from services.scheduler.storage.sql_schema import outbox
from services.scheduler.storage.wishes import Accepted


@dataclass(frozen=True, slots=True)
class Delivered:
    """Messages of the outbox that have arrived."""

    ids: tuple[int, ...]


Item = Offer | Wanted | Delivered
Answer = Accepted | Job | None


async def write(connection: AsyncConnection, items: Sequence[Item]) -> list[Answer]:
    """Write all; returns what became of each. Raises Deposed, PicturesSwept or IntegrityError for any of them."""
    offers = [item for item in items if isinstance(item, Offer)]
    wanted = [item for item in items if isinstance(item, Wanted)]
    gone = [number for item in items if isinstance(item, Delivered) for number in item.ids]
    held = await sql_changes.hold(connection, wanted)
    there = await sql_accept.look(connection, offers, held.pictures) if offers else None
    changed = iter(await sql_changes.apply(connection, held))
    accepted = iter(await sql_accept.accept(connection, offers, there) if there else ())
    if gone:
        await connection.execute(delete(outbox).where(outbox.c.id.in_(gone)))
    return [_answer(item, accepted, changed) for item in items]


def _answer(item: Item, accepted: Iterator[Accepted], changed: Iterator[Job | None]) -> Answer:
    if isinstance(item, Offer):
        return next(accepted)
    return next(changed) if isinstance(item, Wanted) else None
