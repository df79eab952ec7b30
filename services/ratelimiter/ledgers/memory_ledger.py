"""The ledger of one process: dictionaries on one event loop, where no call awaits, so each is a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from types import MappingProxyType

from libs.clock import Clock
from libs.ids import JobId, TenantId
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.booking import Booking, Outcome, Touched
from services.ratelimiter.balances.reservation import OVER, Hold, Reservation, State
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers.ends import Ends
from services.ratelimiter.ledgers.ledger import Change
from services.ratelimiter.ledgers.trusted import TrustedTime

_AT_ONCE = 5_000  # that one call forgets: at midnight all accounts are due, and others wait for an answer meanwhile
_Id = tuple[TenantId, JobId]


class MemoryLedger:
    """Keeps the promises of `ledger.Ledger`; all is lost with the process and rebuilt from usage."""

    def __init__(self, clock: Clock, balances: Mapping[AccountId, Balance] | None = None) -> None:
        """Begin empty, or with what stands in some accounts."""
        self._clock = clock
        self._trusted = TrustedTime(clock.now(), clock.monotonic())
        self._balances = dict(balances or {})
        self._ends = Ends((balance.empty_from_s, account) for account, balance in self._balances.items())
        self._reservations: dict[_Id, Reservation] = {}
        self._tentative: dict[_Id, Reservation] = {}
        self._over: dict[_Id, Reservation] = {}  # in the order in which they ended

    @property
    def balances(self) -> Mapping[AccountId, Balance]:
        """What stands in every account that is not empty."""
        return MappingProxyType(self._balances)

    async def transact(self, touched: Touched, change: Change) -> Outcome:
        """Apply a change to what is touched."""
        outcome = change(self._booking(touched), self._clock.now())
        if outcome.applied:
            for account, balance in outcome.booking.balances.items():
                self._balances[account] = balance
                self._ends.expect(account, balance.empty_from_s)
            for reservation in outcome.booking.reservations.values():
                self._keep((touched.tenant_id, reservation.hold.reservation_id), reservation)
        return outcome

    async def transact_all(self, changes: Sequence[tuple[Touched, Change]]) -> list[Outcome]:
        """Apply one after the other."""
        return [await self.transact(*each) for each in changes]

    async def read(self, touched: Touched) -> tuple[Booking, float]:
        """Return what is held."""
        return self._booking(touched), self._clock.now()

    async def unconfirmed(self, age_s: float) -> Sequence[Hold]:
        """Return what is still tentative, oldest first."""
        before_s = self._clock.now() - age_s
        old = (each for each in self._tentative.values() if each.changed_s < before_s)
        return [each.hold for each in sorted(old, key=lambda each: each.changed_s)]

    async def forget(self, age_s: float) -> None:
        """Drop what no longer matters."""
        now_s = self._trusted.tell(self._clock.now(), self._clock.monotonic())
        over = takewhile(lambda item: item[1].changed_s < now_s - age_s, self._over.items())
        for key, _ in list(islice(over, _AT_ONCE)):
            del self._over[key], self._reservations[key]
        for account in self._ends.reached(now_s, _AT_ONCE):
            empty_from_s = self._balances[account].empty_from_s
            if empty_from_s <= now_s:
                del self._balances[account]
            else:
                self._ends.expect(account, empty_from_s)

    def _booking(self, touched: Touched) -> Booking:
        balances = {a: self._balances[a] for a in touched.accounts if a in self._balances}
        ids = ((reservation_id, (touched.tenant_id, reservation_id)) for reservation_id in touched.reservation_ids)
        return Booking(balances, {name: self._reservations[key] for name, key in ids if key in self._reservations})

    def _keep(self, key: _Id, reservation: Reservation) -> None:
        if self._reservations.get(key) == reservation:
            return
        self._reservations[key] = reservation
        self._tentative.pop(key, None)
        self._over.pop(key, None)
        if reservation.state is State.TENTATIVE:
            self._tentative[key] = reservation
        if reservation.state in OVER:
            self._over[key] = reservation
