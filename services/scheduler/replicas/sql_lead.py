"""The lead in SQL: one row that says who has it, and the notes for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import JobId
from libs.sql.notices import notify
from services.scheduler.replicas.lead_store import NOBODY, UNELECTED, Claim, Leader, Note, epoch_for
from services.scheduler.storage import sql_reads
from services.scheduler.storage.sql_schema import leader, notes
from services.scheduler.storage.sql_transactions import Transactions

_ROW = leader.c.id == 1
_EPOCH = select(leader.c.epoch).where(_ROW).with_for_update(read=True)
_CHANNEL = "darkroom_notes"


class SqlLead:
    """The LeadStore on SQLAlchemy."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def take_lead(self, holder: str, now: float, claim: Claim = UNELECTED) -> int:
        """Raise the epoch."""
        return await self._transactions.write(lambda connection: _take(connection, holder, now, claim))

    async def leader(self) -> Leader:
        """Return who leads."""
        return await self._transactions.read(_read)

    async def notes(self, epoch: int, limit: int) -> list[Note]:
        """Return notes for the leader, oldest first."""

        async def fetch(connection: AsyncConnection) -> list[Note]:
            await sql_reads.check_epoch(connection, epoch)
            rows = await connection.execute(select(notes).order_by(notes.c.id).limit(limit))
            return [Note(row.id, row.job_id) for row in rows]

        return await self._transactions.read(fetch)

    def hear_notes(self) -> AsyncGenerator[None, None]:
        """Yield once it hears, then when there may be notes or another leads."""
        return self._transactions.notices(_CHANNEL)

    async def notes_taken(self, ids: Sequence[int]) -> None:
        """Remove notes."""
        await self._transactions.write(lambda connection: connection.execute(delete(notes).where(notes.c.id.in_(ids))))


async def leads(connection: AsyncConnection, epoch: int) -> bool:
    """Return whether `epoch` leads; then no other can lead before this transaction ends."""
    if epoch == NOBODY:
        return False
    return bool(await connection.scalar(_EPOCH) == epoch)


async def leave_notes(connection: AsyncConnection, job_ids: Sequence[JobId]) -> None:
    """Tell the leader, whoever that is, to look at jobs."""
    if job_ids:
        await connection.execute(insert(notes), [{"job_id": job_id} for job_id in job_ids])
        await notify(connection, _CHANNEL)


async def _take(connection: AsyncConnection, holder: str, now: float, claim: Claim) -> int:
    before = _leader((await connection.execute(select(leader).where(_ROW).with_for_update())).one())
    epoch = epoch_for(before, holder, claim)
    if epoch == before.epoch:
        return epoch
    values = {
        "epoch": epoch,
        "holder": holder,
        "updated_at": now,
        "cluster_id": claim.cluster_id,
        "revision": claim.revision,
        "address": claim.address,
    }
    await connection.execute(update(leader).where(_ROW).values(values))
    await notify(connection, _CHANNEL)  # whoever led looks, and finds that it does not any more
    return epoch


async def _read(connection: AsyncConnection) -> Leader:
    return _leader((await connection.execute(select(leader).where(_ROW))).one())


def _leader(row: object) -> Leader:
    claim = Claim(row.cluster_id, row.revision, row.address)  # type: ignore[attr-defined]
    return Leader(row.epoch, row.holder, claim, row.updated_at)  # type: ignore[attr-defined]
