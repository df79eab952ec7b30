"""What the store keeps of the lead: who has it, and notes of jobs that other replicas accepted or want stopped.

The epoch in the store is the fence. An election elsewhere only suggests who takes the lead; a winner that was
overtaken meanwhile is refused. A replica that does not lead commits jobs too, each with a note in the same
transaction, and the leader takes in the rows that are there: never those above the last number, because commits
become visible out of the order of their numbers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.ids import JobId

NOBODY = 0  # the epoch of a replica that does not lead


class Outrun(Exception):
    """The winner of a later election has taken the lead."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An election that was won: in which store of elections, and at which of its revisions. `address` is host:port."""

    cluster_id: str
    revision: int
    address: str


UNELECTED = Claim("", 0, "")  # of a scheduler that is alone by arrangement: it is never refused


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads since when (Unix seconds); an empty holder: nobody did yet."""

    epoch: int
    holder: str
    claim: Claim
    updated_at: float


@dataclass(frozen=True, slots=True)
class Note:
    """Something happened to a job that its leader has not been told."""

    id: int
    job_id: JobId


def epoch_for(before: Leader, holder: str, claim: Claim) -> int:
    """Return the epoch that a winner leads with: the one it has, when the answer to its first call was lost or late.

    Raises Outrun for a claim of the leader's own cluster that is not later than the leader's.
    """
    if (before.holder, before.claim) == (holder, claim):
        return before.epoch
    if claim != UNELECTED and claim.cluster_id == before.claim.cluster_id and claim.revision <= before.claim.revision:
        raise Outrun(f"{before.holder} won revision {before.claim.revision}, later than {claim.revision}")
    return before.epoch + 1


class LeadStore(Protocol):
    """Part of JobStore. Every method may raise StoreUnavailable."""

    async def take_lead(self, holder: str, now: float, claim: Claim = UNELECTED) -> int:
        """Raise the leader epoch and return it; every earlier leader is deposed from then on.

        The same holder with the same claim gets the epoch that it has. Raises Outrun for a claim of the leader's own
        cluster that is not later than the leader's.
        """
        ...

    async def leader(self) -> Leader:
        """Return who leads."""
        ...

    async def notes(self, epoch: int, limit: int) -> list[Note]:
        """Return notes for the leader, oldest first. Raises Deposed when `epoch` does not lead any more."""
        ...

    def hear_notes(self) -> AsyncGenerator[None, None]:
        """Yield once it hears, then when there may be notes or another leads.

        Ends at once in a store that cannot tell. Words may be lost; after StoreUnavailable all are, until called again.
        """
        ...

    async def notes_taken(self, ids: Sequence[int]) -> None:
        """Remove notes."""
        ...
