"""The lead without a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from libs.ids import JobId
from services.scheduler.replicas.lead_store import UNELECTED, Claim, Leader, Note, epoch_for
from services.scheduler.storage.store import Deposed


class MemoryLead:
    """The LeadStore in memory."""

    def __init__(self) -> None:
        self._leader = Leader(0, "", UNELECTED, 0.0)
        self._notes: dict[int, Note] = {}
        self._last_note = 0
        self._ears: dict[asyncio.Event, None] = {}  # in the order in which they came

    async def take_lead(self, holder: str, now: float, claim: Claim = UNELECTED) -> int:
        """Raise the epoch."""
        epoch = epoch_for(self._leader, holder, claim)
        if epoch != self._leader.epoch:
            self._leader = Leader(epoch, holder, claim, now)
            self._tell()
        return epoch

    async def leader(self) -> Leader:
        """Return who leads."""
        return self._leader

    async def notes(self, epoch: int, limit: int) -> list[Note]:
        """Return notes for the leader, oldest first."""
        self._check(epoch)
        return list(self._notes.values())[:limit]

    async def hear_notes(self) -> AsyncGenerator[None, None]:
        """Yield once it hears, then when there may be notes or another leads."""
        told = asyncio.Event()
        self._ears[told] = None
        try:
            while True:
                yield
                await told.wait()
                told.clear()
        finally:
            del self._ears[told]

    async def notes_taken(self, ids: Sequence[int]) -> None:
        """Remove notes."""
        for note_id in ids:
            self._notes.pop(note_id, None)

    def _check(self, epoch: int) -> None:
        if epoch != self._leader.epoch:
            raise Deposed(f"epoch {epoch} is over, {self._leader.epoch} leads")

    def _leave_note(self, job_id: JobId, epoch: int) -> None:
        """Tell the leader to look at a job, unless whoever changes it leads."""
        if epoch != self._leader.epoch:
            self._last_note += 1
            self._notes[self._last_note] = Note(self._last_note, job_id)
            self._tell()

    def _tell(self) -> None:
        for told in self._ears:
            told.set()
