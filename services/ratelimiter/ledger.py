"""Where balances and reservations stand. `memory_ledger` keeps the promise; one contract suite checks every adapter.

Each call is one transaction on the tenant's balance and the named reservation; the arithmetic is `booking`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.ids import JobId, TenantId
from services.ratelimiter.balance import Amount, Balance, Denial
from services.ratelimiter.policy import Limits
from services.ratelimiter.reservation import Hold, Reservation, Step


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision, with the balance after it."""

    denial: Denial | None
    balance: Balance


class Ledger(Protocol):
    """Balances by tenant and reservations by id, changed atomically. Times are Unix seconds."""

    async def reserve(self, hold: Hold, limits: Limits, now_s: float) -> Verdict:
        """Take what `hold` asks for, all or nothing; the same hold twice is taken once."""
        ...

    async def advance(self, step: Step, hold: Hold, limits: Limits, now_s: float, charged_units: float = 0.0) -> bool:
        """Apply a step; False when it changed nothing. A forgotten reservation is applied from `hold`."""
        ...

    async def find(self, tenant_id: TenantId, reservation_id: JobId) -> Reservation | None:
        """Return a reservation unless it is forgotten."""
        ...

    async def balance(self, tenant_id: TenantId) -> Balance:
        """Return the balance of a tenant, empty for one that never spent; nothing is kept for asking."""
        ...

    async def unconfirmed(self, before_s: float) -> Sequence[Hold]:
        """Return what was reserved before a moment and is still tentative, oldest first."""
        ...

    async def charge(self, tenant_id: TenantId, limits: Limits, amount: Amount, at_s: float) -> None:
        """Put earlier spending back after a loss; in order of time."""
        ...

    async def forget(self, before_s: float, now_s: float) -> None:
        """Drop reservations that were over before a moment, and balances that have wholly drained."""
        ...
