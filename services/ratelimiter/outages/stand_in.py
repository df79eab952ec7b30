"""The ledger of one process while that of all is away: only what begins in the outage counts here.

What began before stands in the other one, and is changed there when it is back.
"""

from __future__ import annotations

from collections.abc import Sequence

from libs.clock import Clock
from services.ratelimiter.balances.booking import Booking, Outcome, Touched
from services.ratelimiter.balances.reservation import Hold, State
from services.ratelimiter.ledgers.ledger import Change
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger


class StandIn:
    """Keeps the promises of `ledger.Ledger` for reservations that were made here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._memory = MemoryLedger(clock)

    async def transact(self, touched: Touched, change: Change) -> Outcome:
        """Apply a change; one to a reservation that was not made here is answered and not kept."""
        held, now_s = await self._memory.read(touched)
        outcome = change(held, now_s)
        others = (
            name
            for name, reservation in outcome.booking.reservations.items()
            if name not in held.reservations and reservation.state is not State.TENTATIVE
        )
        if any(others):
            return outcome
        return await self._memory.transact(touched, change)

    async def transact_all(self, changes: Sequence[tuple[Touched, Change]]) -> list[Outcome]:
        """Apply one after the other."""
        return [await self.transact(*each) for each in changes]

    async def read(self, touched: Touched) -> tuple[Booking, float]:
        """Return what is held."""
        return await self._memory.read(touched)

    async def unconfirmed(self, age_s: float) -> Sequence[Hold]:
        """Return what is still tentative, oldest first."""
        return await self._memory.unconfirmed(age_s)

    async def forget(self, age_s: float) -> None:
        """Drop what no longer matters."""
        await self._memory.forget(age_s)

    def hand_over(self) -> None:
        """Forget the reservations: the ledger of all has them now.

        What was granted counts on until it has drained or its day is over. The share of an outage is granted once, and
        not with each of several short ones.
        """
        self._memory = MemoryLedger(self._clock, self._memory.balances)
