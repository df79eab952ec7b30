"""Prepaid money, in whole millionths of the currency that the operator reckons in.

    hold ──▶ held ── confirm ──▶ held, until the job is settled ──▶ paid, in the transaction of its usage row
              ├ release ──▶ given back
              └ nobody confirms it in time ──▶ given back

What is held is not spent, and cannot be held twice: the balance never goes below what running jobs may cost, but for
a charge above its estimate. Every call may come twice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from libs.ids import JobId, TenantId

MICROS = 1_000_000


class Lack(enum.Enum):
    """Why money was not held."""

    BALANCE = "balance"  # it is not there
    CAP = "spend"  # it is there, and the tenant wanted no more to be spent in this month


@dataclass(frozen=True, slots=True)
class Wallet:
    """The money of one tenant. `spent_micros` is that of the month asked for, `cap_micros` its most; None for no cap."""

    tenant_id: TenantId
    balance_micros: int = 0
    held_micros: int = 0
    spent_micros: int = 0
    cap_micros: int | None = None

    @property
    def free_micros(self) -> int:
        """What could still be held of the balance."""
        return self.balance_micros - self.held_micros

    @property
    def left_micros(self) -> int | None:
        """What could still be held under the cap; None for no cap."""
        return None if self.cap_micros is None else self.cap_micros - self.spent_micros - self.held_micros

    def lack(self, micros: int) -> Lack | None:
        """Return why an amount cannot be held, or None."""
        if self.free_micros < micros:
            return Lack.BALANCE
        left = self.left_micros
        return Lack.CAP if left is not None and left < micros else None


@dataclass(frozen=True, slots=True)
class Credit:
    """A payment; below 0 it takes away. `id` names it, so that it counts once."""

    id: str
    tenant_id: TenantId
    micros: int
    note: str = ""


class Wallets(Protocol):
    """Keeps the money. Raises Unavailable when it cannot be reached: without the truth nothing is spent."""

    async def find(self, tenant_id: TenantId, now_s: float) -> Wallet:
        """Return a tenant's wallet; an empty one for a tenant that never paid."""
        ...

    async def hold(self, tenant_id: TenantId, reservation_id: JobId, micros: int, now_s: float) -> Wallet | None:
        """Hold an amount, or return the wallet that has too little and hold nothing."""
        ...

    async def confirm(self, tenant_id: TenantId, reservation_id: JobId, micros: int, now_s: float) -> None:
        """Have it wait for the settlement; one that was given back is held again, whether it fits or not."""
        ...

    async def release(self, reservation_id: JobId) -> None:
        """Give back what nobody confirmed."""
        ...

    async def sweep(self, before_s: float) -> int:
        """Give back what was held before a moment and never confirmed; returns how many."""
        ...

    async def credit(self, credit: Credit, now_s: float) -> Wallet:
        """Add a payment, once."""
        ...

    async def cap(self, tenant_id: TenantId, cap_micros: int | None, now_s: float) -> Wallet:
        """Say the most that may be spent in a month; None for no cap."""
        ...


def month_of(now_s: float) -> int:
    """Return the month of UTC, like 202611."""
    moment = datetime.fromtimestamp(now_s, UTC)
    return moment.year * 100 + moment.month


def next_month_s(now_s: float) -> float:
    """Return the seconds until the next month of UTC."""
    moment = datetime.fromtimestamp(now_s, UTC)
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    return datetime(year, month, 1, tzinfo=UTC).timestamp() - now_s
