"""What was charged, one row a job: the durable truth from which balances are rebuilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.ids import JobId, KeyId
from services.ratelimiter.balances.causes import Cause, Charge
from services.ratelimiter.balances.reservation import Hold

OUTCOMES = ("succeeded", "failed", "cancelled", "expired")


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a job came to cost. Units as in libs.generation.cost; `gpu_ms` as measured on the device.

    `outcome` is one of OUTCOMES, `cause` the reason in full; `hold` is what was reserved and `images` are the
    pictures delivered.
    """

    hold: Hold
    key_id: KeyId
    model_version: str
    outcome: str
    actual_units: float
    charged_units: float
    gpu_ms: float
    images: int
    cause: Cause = Cause.SUCCEEDED

    @property
    def charge(self) -> Charge:
        """What follows for the accounts."""
        return Charge(self.charged_units, self.cause, self.images)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A settlement and when; `reserved_s` is None when the reservation had been forgotten. Unix seconds.

    `micros` is what it costs in money, in millionths.
    """

    settlement: Settlement
    settled_s: float
    reserved_s: float | None
    micros: int = 0


@dataclass(frozen=True, slots=True)
class DayTotal:
    """What a caller has spent of a day; `hold` names the caller, and nothing of one job."""

    hold: Hold
    images: int
    units: float


class UsageBook(Protocol):
    """Keeps one row a job. Raises Unavailable when it cannot be reached."""

    async def record(self, row: UsageRow) -> bool:
        """Write the row, add it to its day and pay it, all or nothing; False when the job has one already."""
        ...

    async def has(self, job_id: JobId) -> bool:
        """Whether the job was settled."""
        ...

    async def since(self, settled_s: float) -> Sequence[UsageRow]:
        """Return what was settled from a moment on, in order of time."""
        ...

    async def day_totals(self, begin_s: float) -> Sequence[DayTotal]:
        """Return what everybody has spent on jobs that were reserved from a moment on."""
        ...
