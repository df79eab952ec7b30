"""Where accounts and reservations stand. `memory_ledger` keeps the promise; one contract suite checks every adapter.

A ledger only loads, stores and knows the time: the arithmetic is `booking`'s, and `codec` writes it down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from libs.errors import Unavailable
from services.ratelimiter.balances.booking import Booking, Outcome, Touched
from services.ratelimiter.balances.reservation import Hold

Change = Callable[[Booking, float], Outcome]
"""From what the ledger holds and its time (Unix seconds) to what it shall hold; it may be called again."""


class LedgerBusy(Unavailable):
    """Calls of one tenant stand in each other's way; the ledger itself answers."""

    @classmethod
    def now(cls) -> Self:
        """Return one that says when to come again."""
        told = "Too many calls of one tenant at once. Nothing was charged; the same request may succeed in a moment."
        return cls(told, reason="LIMITER_DEGRADED", metadata={"part": "ledger"}, retry_after_s=0.2)


class Ledger(Protocol):
    """Balances by account and reservations by tenant and id, changed atomically.

    Raises Unavailable when it is away, LedgerBusy when it is not and a tenant asks too much at once.
    """

    async def transact(self, touched: Touched, change: Change) -> Outcome:
        """Load what is touched, apply `change` and, where it says `applied`, store all of it; as one step."""
        ...

    async def transact_all(self, changes: Sequence[tuple[Touched, Change]]) -> list[Outcome]:
        """Transact for several callers, in order; each whole or not at all.

        Returns the outcomes, but for tenants that ask too much at once, of whom nothing is changed.
        """
        ...

    async def read(self, touched: Touched) -> tuple[Booking, float]:
        """Return what is held of it, and the ledger's time; nothing is kept for asking."""
        ...

    async def unconfirmed(self, age_s: float) -> Sequence[Hold]:
        """Return what was reserved longer ago than this and is still tentative, oldest first."""
        ...

    async def forget(self, age_s: float) -> None:
        """Drop reservations that were over before so long, and balances that are as good as empty."""
        ...
