"""What the job store promises for results that are given again, and for those whose time is over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.ids import JobId
from services.scheduler.job import Job, OutboxMessage
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.results.reuse import Terms
from services.scheduler.storage.wishes import Accepted

REMOVAL_MARGIN_S = 30.0  # between the removal of a picture and an attempt that surely stored it anew
TOMBSTONE_S = 3600.0  # longer than any worker takes from storing a picture to the commit of its job


class PicturesSwept(Exception):
    """A picture that an attempt brought is being removed, or was while it drew: the job is to be drawn again."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """The owner of a running job cancels it and `heir`, which had joined it, goes on with its run.

    `outbox` settles the job that is cancelled.
    """

    job_id: JobId
    attempt: int
    heir: JobId
    epoch: int
    now: float
    charge_reason: str = ""
    outbox: tuple[OutboxMessage, ...] = ()


class ResultStore(Protocol):
    """The part of the job store that the cache lives on."""

    async def accept_reusing(
        self, job: Job, outbox: Sequence[OutboxMessage], terms: Terms, epoch: int = NOBODY
    ) -> Accepted:
        """Accept a job that others with its cache key may answer: it is HIT, JOINED or MISS when this returns.

        A hit refers to its pictures, and keeps them as long as its own results, in the same transaction; its
        settlement follows what is in `outbox`. Pictures that are removed within MARGIN_S answer nobody.
        """
        ...

    async def follow(self, job_id: JobId, epoch: int, now: float) -> Job | None:
        """Bring a joiner to the end of its run, or set it free when the run brought nothing that holds for it.

        One that is set free joins another run where it can. None while its run goes on, or when it is no joiner.
        """
        ...

    async def hand_over(self, order: HandOver) -> tuple[Job, Job] | None:
        """Cancel a running job and make its heir the runner; the other joiners wait for the heir from then on.

        Returns the cancelled job and the heir. None when the job does not run or the heir does not wait for it.
        """
        ...

    async def doom(self, epoch: int, now: float, limit: int) -> list[str]:
        """Mark pictures whose time is over, so that nobody refers to them; return those marked and not removed."""
        ...

    async def doom_unknown(self, hashes: Collection[str], epoch: int, now: float) -> None:
        """Mark objects that no row tells of; those that have one by now stay as they are."""
        ...

    async def removed(self, hashes: Collection[str], epoch: int, now: float) -> None:
        """Note that doomed objects are gone, and forget those that were TOMBSTONE_S ago."""
        ...

    async def unknown(self, hashes: Collection[str]) -> list[str]:
        """Return which of these pictures no row tells of."""
        ...

    async def forget_records(self, epoch: int, before: float, limit: int) -> int:
        """Remove jobs that ended before a moment, with all that is kept of them; return how many."""
        ...
