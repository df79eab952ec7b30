"""MAIN PATH: reserve → confirm → renew … → settle | release; peek says what reserve would decide."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from libs.clock import Clock
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances import booking, refusal
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.booking import Booking, Move, Touched
from services.ratelimiter.balances.causes import Charge
from services.ratelimiter.balances.refusal import Denial, Room
from services.ratelimiter.balances.reservation import Hold, Reservation, Step
from services.ratelimiter.balances.scope import LimitsInForce, Scope, in_force
from services.ratelimiter.balances.standing import Standing, standings
from services.ratelimiter.headers import Header, limit_headers
from services.ratelimiter.ledgers.ledger import Change, Ledger, LedgerBusy
from services.ratelimiter.meters import Meters
from services.ratelimiter.tiers.policy import Limits
from services.ratelimiter.usage.book import Settlement, UsageBook, UsageRow

_RENEWED_AT_ONCE = 64  # reservations that go to the ledger together; decisions wait for a few milliseconds of it
_REMEMBERED_S = 600.0  # repeated calls come within seconds; later ones find the usage row


_Caller = tuple[Hold, tuple[JobId, ...]]  # one of its reservations, and the ids of all


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision, the headers that tell of it, what could be reserved at once now, and the limits of the tenant."""

    denial: Denial | None
    headers: Sequence[Header]
    room: Room
    limits: Limits

    @property
    def available_units(self) -> float:
        """The units that could be reserved at once now."""
        return self.room.units


class Limiter:
    """Decides over tenants by the limits in force. Every call may come twice; the second changes nothing."""

    def __init__(
        self,
        tariffs: LimitsInForce,
        ledger: Ledger,
        usage: UsageBook,
        clock: Clock,
        meters: Meters,
        lease_s: float = booking.LEASE_S,
    ) -> None:
        self._tariffs, self._ledger, self._usage = tariffs, ledger, usage
        self._clock, self._meters, self._lease_s = clock, meters, lease_s

    async def reserve(self, hold: Hold) -> Decision:
        """Take one request, the units, a place in flight and a part of the day; a denial takes nothing."""
        move = self._move(Step.RESERVE, hold)
        outcome = await self._ledger.transact(move.touched, lambda held, now_s: booking.apply(held, move, now_s))
        self._meters.decided(hold.tier, outcome.denial)
        return _decision(move, outcome.booking, outcome.now_s, outcome.denial)

    async def confirm(self, hold: Hold, reserved_s: float | None = None) -> None:
        """Make it stand. One that the ledger forgot is taken again, unless its job is already settled."""
        known = await self._find(hold.tenant_id, hold.reservation_id)
        if known is None and await self._usage.has(hold.reservation_id):
            return
        await self._apply(self._move(Step.CONFIRM, hold, reserved_s))

    async def renew(self, holds: Sequence[Hold]) -> list[JobId]:
        """Lease the places of open jobs for longer; returns those whose reservation does not stand here.

        Those of who asks too much at once are renewed the next time; the places of others do not wait for it.
        """
        unknown = list[JobId]()
        for callers in _parts(_by_caller(holds)):
            for outcome in await self._ledger.transact_all([self._renewal(*each) for each in callers]):
                unknown += outcome.unknown
        return unknown

    async def settle(self, settlement: Settlement, reserved_s: float | None = None) -> bool:
        """Replace the estimate by the charge, once: the usage row says whether it was done before.

        A repetition still settles a reservation that stands: the first try may have broken off behind the row, or
        its caller was told that the database does not answer and the row was written all the same.
        """
        hold = settlement.hold
        move = self._move(Step.SETTLE, hold, reserved_s, settlement)
        known = await self._find(hold.tenant_id, hold.reservation_id)
        micros = move.scopes[0].limits.micros(settlement.charged_units)
        row = UsageRow(settlement, self._clock.now(), known.reserved_s if known else reserved_s, micros)
        first = await self._usage.record(row)
        if not first and known is None:
            return False
        applied = await self._apply(move)
        if applied:
            self._meters.charged(settlement)
        return applied

    async def charge(self, hold: Hold, charge: Charge, reserved_s: float | None, *, forgotten_too: bool) -> bool:
        """Apply a settlement whose usage row is written; to a reservation that the ledger forgot only when told so."""
        if not forgotten_too and await self._find(hold.tenant_id, hold.reservation_id) is None:
            return False
        return await self._apply(Move(Step.SETTLE, hold, self._scopes(hold), charge, reserved_s))

    async def release(self, tenant_id: TenantId, reservation_id: JobId) -> bool:
        """Give it back; False when nothing tentative was there."""
        known = await self._find(tenant_id, reservation_id)
        return known is not None and await self._apply(self._move(Step.RELEASE, known.hold))

    async def peek(self, hold: Hold) -> Decision:
        """Return what `reserve` would decide, whatever the id; takes nothing."""
        move = self._move(Step.RESERVE, hold)
        held, now_s = await self._ledger.read(move.touched)
        return _decision(move, held, now_s, booking.refused(held, move, now_s))

    async def told(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str = "") -> Sequence[Header]:
        """Return the headers of a caller of whom nothing is denied."""
        return limit_headers(*await self._read(Hold(JobId(""), tenant_id, tier, 0.0, 0, key_id, address)))

    async def standing(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str = "") -> Sequence[Standing]:
        """Return every limit of a caller, account by account, with what is used of it."""
        return tuple(standings(*await self._read(Hold(JobId(""), tenant_id, tier, 0.0, 0, key_id, address))))

    async def expire(self, ttl_s: float) -> int:
        """Give back what nobody confirmed within `ttl_s` and forget what is long over; returns how many expired."""
        expired = 0
        for hold in await self._ledger.unconfirmed(ttl_s):
            with suppress(LedgerBusy):
                expired += await self._apply(self._move(Step.EXPIRE, hold))
        await self._ledger.forget(max(_REMEMBERED_S, ttl_s))
        return expired

    async def _apply(self, move: Move) -> bool:
        outcome = await self._ledger.transact(move.touched, lambda held, now_s: booking.apply(held, move, now_s))
        return outcome.applied

    def _renewal(self, caller: Hold, ids: tuple[JobId, ...]) -> tuple[Touched, Change]:
        scopes = self._scopes(caller)
        touched = Touched(caller.tenant_id, tuple(scope.account for scope in scopes), ids)
        return touched, lambda held, now_s: booking.renew(held, touched, scopes, self._lease_s, now_s)

    async def _find(self, tenant_id: TenantId, reservation_id: JobId) -> Reservation | None:
        held, _ = await self._ledger.read(Touched(tenant_id, (), (reservation_id,)))
        return held.reservations.get(reservation_id)

    async def _read(self, caller: Hold) -> tuple[list[tuple[Balance, Scope]], float]:
        """Return what a caller's accounts hold, and the ledger's time."""
        scopes = self._scopes(caller)
        held, now_s = await self._ledger.read(Touched(caller.tenant_id, tuple(scope.account for scope in scopes)))
        return _held(scopes, held), now_s

    def _move(
        self, step: Step, hold: Hold, reserved_s: float | None = None, settlement: Settlement | None = None
    ) -> Move:
        scopes = self._scopes(hold)
        if settlement is None:
            return Move(step, hold, scopes, reserved_s=reserved_s, lease_s=self._lease_s)
        return Move(step, hold, scopes, settlement.charge, reserved_s)

    def _scopes(self, hold: Hold) -> tuple[Scope, ...]:
        now_s = self._clock.now()
        return in_force(self._tariffs, hold.tenant_id, hold.tier, hold.key_id, hold.address, now_s)


def _by_caller(holds: Iterable[Hold]) -> list[_Caller]:
    """Return the ids of those that stand in the same accounts, with one of them."""
    groups: dict[tuple[str, ...], list[Hold]] = {}
    for hold in holds:
        groups.setdefault((hold.tenant_id, hold.tier, hold.key_id, hold.address), []).append(hold)
    return [(group[0], tuple(hold.reservation_id for hold in group)) for group in groups.values()]


def _parts(callers: Iterable[_Caller]) -> Iterator[list[_Caller]]:
    """Yield callers with as many reservations together as are renewed at once; one with more stands alone."""
    part, reservations = list[_Caller](), 0
    for caller in callers:
        if part and reservations + len(caller[1]) > _RENEWED_AT_ONCE:
            yield part
            part, reservations = [], 0
        part.append(caller)
        reservations += len(caller[1])
    if part:
        yield part


def _held(scopes: Iterable[Scope], held: Booking) -> list[tuple[Balance, Scope]]:
    return [(held.balances.get(scope.account, Balance()), scope) for scope in scopes]


def _decision(move: Move, booked: Booking, now_s: float, denial: Denial | None) -> Decision:
    held = _held(move.scopes, booked)
    return Decision(denial, limit_headers(held, now_s, denial), refusal.room(held, now_s), move.scopes[0].limits)
