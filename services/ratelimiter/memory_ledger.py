"""The ledger of one process: dictionaries on one event loop, where no call awaits, so each is a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from libs.ids import JobId, TenantId
from services.ratelimiter import balance as balances
from services.ratelimiter import booking
from services.ratelimiter.balance import Amount, Balance
from services.ratelimiter.booking import Booking, Outcome
from services.ratelimiter.ledger import Verdict
from services.ratelimiter.policy import Limits
from services.ratelimiter.reservation import OVER, Hold, Reservation, State, Step

_Id = tuple[TenantId, JobId]


class MemoryLedger:
    """Keeps the promises of `ledger.Ledger`; all is lost with the process and rebuilt from usage."""

    def __init__(self) -> None:
        self._balances: dict[TenantId, tuple[Balance, Limits]] = {}
        self._reservations: dict[_Id, Reservation] = {}
        self._tentative: dict[_Id, Reservation] = {}  # in order of time, as dictionaries keep it
        self._over: dict[_Id, Reservation] = {}  # in order of time

    async def reserve(self, hold: Hold, limits: Limits, now_s: float) -> Verdict:
        """Take all or nothing, once."""
        outcome = booking.reserve(self._booking(hold), hold, limits, now_s)
        self._keep(outcome, limits)
        return Verdict(outcome.denial, outcome.booking.balance)

    async def advance(self, step: Step, hold: Hold, limits: Limits, now_s: float, charged_units: float = 0.0) -> bool:
        """Apply a step; False when it changed nothing."""
        outcome = booking.advance(self._booking(hold), step, hold, limits, now_s, charged_units)
        self._keep(outcome, limits)
        return outcome.applied

    async def find(self, tenant_id: TenantId, reservation_id: JobId) -> Reservation | None:
        """Return a reservation unless it is forgotten."""
        return self._reservations.get((tenant_id, reservation_id))

    async def balance(self, tenant_id: TenantId) -> Balance:
        """Return the balance of a tenant."""
        kept = self._balances.get(tenant_id)
        return kept[0] if kept else Balance()

    async def unconfirmed(self, before_s: float) -> Sequence[Hold]:
        """Return what is still tentative, oldest first."""
        return [r.hold for r in takewhile(lambda r: r.reserved_s < before_s, self._tentative.values())]

    async def charge(self, tenant_id: TenantId, limits: Limits, amount: Amount, at_s: float) -> None:
        """Put earlier spending back."""
        self._balances[tenant_id] = (balances.shift(await self.balance(tenant_id), limits, amount, at_s), limits)

    async def forget(self, before_s: float, now_s: float) -> None:
        """Drop what no longer matters."""
        for key, _ in list(takewhile(lambda item: item[1].changed_s < before_s, self._over.items())):
            del self._over[key], self._reservations[key]
        idle = [t for t, (b, limits) in self._balances.items() if balances.is_untouched(b, limits, now_s)]
        for tenant_id in idle:
            del self._balances[tenant_id]

    def _booking(self, hold: Hold) -> Booking:
        kept = self._balances.get(hold.tenant_id)
        return Booking(kept[0] if kept else Balance(), self._reservations.get((hold.tenant_id, hold.reservation_id)))

    def _keep(self, outcome: Outcome, limits: Limits) -> None:
        reservation = outcome.booking.reservation
        if not outcome.applied or reservation is None:
            return
        key = (reservation.hold.tenant_id, reservation.hold.reservation_id)
        self._balances[key[0]] = (outcome.booking.balance, limits)
        self._reservations[key] = reservation
        self._tentative.pop(key, None)
        self._over.pop(key, None)
        if reservation.state is State.TENTATIVE:
            self._tentative[key] = reservation
        if reservation.state in OVER:
            self._over[key] = reservation
