"""The ledger of several processes: documents in Redis, written only if nobody else did since they were read.

The arithmetic runs here, by Redis's time; a script compares and writes all documents of a transaction or none of them.
One server holds everything under one hash tag, so tenants, keys and addresses can be decided together. Each document
goes by itself when it is as good as empty or long over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.clock import Clock, SystemClock
from libs.ids import TenantId
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.booking import Booking, Outcome, Touched
from services.ratelimiter.balances.reservation import Hold, Reservation, State
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers import codec
from services.ratelimiter.ledgers.ledger import Change, LedgerBusy
from services.ratelimiter.ledgers.redis_guess import Guess
from services.ratelimiter.ledgers.redis_line import Found, RedisLine, key
from services.ratelimiter.ledgers.redis_putting import Written, putting
from services.ratelimiter.ledgers.redis_scripts import BEFORE, DROP, LOOK, NOTE, SWAP
from services.ratelimiter.ledgers.turns import Turns

_MOST_TRIES = 64
_PATIENCE = 5  # times the deadline of one answer, for its turn
_MOST_EXPIRED = 200  # in one sweep
_INDEX = key("tentative")
_RESTORED, _ALIVE, _UNSETTLED = key("restored"), key("alive"), key("unsettled")
_AT_ONCE = 500
_KEPT_S = {
    State.TENTATIVE: 24 * 3600.0,  # given back long before
    State.CONFIRMED: 8 * 24 * 3600.0,  # longer than a job may wait; later its settlement carries all that is needed
}
_OVER_KEPT_S = 900.0  # repeated calls come within seconds
_UNSETTLED_MS = 600_000  # less: what is settled a second time must still be known to be over
_MARGIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Document:
    """What shall stand under a name, for how long; `place` as in redis_scripts.SWAP."""

    name: str
    text: str
    life_s: float
    place: str = ""


class RedisLedger:
    """Keeps the promises of `ledger.Ledger`; raises LedgerLost until `adopt` was called for this life of the server."""

    def __init__(self, line: RedisLine, clock: Clock | None = None) -> None:
        """Decide by Redis's time, or by a test's clock."""
        self._line, self._clock, self._guess = line, clock, Guess(SystemClock())
        self._turns = Turns(_PATIENCE * line.deadline_s)

    async def transact(self, touched: Touched, change: Change) -> Outcome:
        """Apply a change to what is touched; LedgerBusy when others are faster again and again."""
        names = _names(touched)
        async with self._turns.of(touched.tenant_id):
            guessed = self._guess.of(names)
            found = guessed or await self._line.run(LOOK, names)
            for _ in range(_MOST_TRIES):
                now_s = self._now_s(found)
                booking = _booking(touched, found.documents, now_s)
                outcome = change(booking, now_s)
                if outcome.applied:
                    read = dict(zip(names, found.documents, strict=True))
                    found = await self._swap(read, _documents(touched, booking, outcome))
                    if not found.documents:
                        return outcome
                elif found is guessed:  # nobody is told no by a guess
                    found = await self._line.run(LOOK, names)
                else:
                    return outcome
                self._guess.saw(dict(zip(names, found.documents, strict=True)), found.now_s)
        raise LedgerBusy.now()

    async def read(self, touched: Touched) -> tuple[Booking, float]:
        """Return what is held."""
        found = await self._line.run(LOOK, _names(touched))
        now_s = self._now_s(found)
        return _booking(touched, found.documents, now_s), now_s

    async def unconfirmed(self, age_s: float) -> Sequence[Hold]:
        """Return what is still tentative, oldest first; the rest of very many with the next call."""
        now_s = self._now_s(await self._line.run(LOOK, []))
        found = await self._line.run(BEFORE, [_INDEX], now_s - age_s, _MOST_EXPIRED)
        return [codec.reservation_from_json(document).hold for document in found.documents if document]

    async def forget(self, age_s: float) -> None:  # noqa: ARG002 - Redis was told with each document
        """Note that it lives; each document is dropped by Redis when its time is over."""
        await self._line.run(NOTE, [_ALIVE])

    async def restored_s(self) -> float:
        """Return as of when it was last put together from usage. Raises LedgerLost when it is not known to be whole."""
        restored = (await self._line.run(LOOK, [_RESTORED])).documents[0]
        return float(restored or b"0")

    async def adopt(self) -> float | None:
        """Declare what was kept over another start whole; return when it was last alive, None when nothing was kept."""
        async with putting(self._line) as turn:
            alive, unsettled = (await self._line.command(("MGET", _ALIVE, _UNSETTLED)))[0]
            if alive is None or not turn.before:
                return None
            if not turn.is_done:
                since_s = min(float(alive), float(unsettled or alive))
                await turn.declare((_UNSETTLED, since_s, _UNSETTLED_MS))
            return float(alive)

    async def unsettled_s(self) -> float | None:
        """Return since when settlements may be missing in what was adopted; None when none are."""
        unsettled = (await self._line.run(LOOK, [_UNSETTLED])).documents[0]
        return None if unsettled is None else float(unsettled)

    async def settled(self, since_s: float) -> None:
        """Note that none are missing since then."""
        await self._line.run(DROP, [_UNSETTLED], since_s)

    async def restore(self, known: Mapping[AccountId, Balance], as_of_s: float) -> None:
        """Fill an empty one with what was known at a moment, and declare it whole, unless another process did."""
        async with putting(self._line) as turn:
            if turn.is_done:
                return
            accounts = list(known.items())
            for first in range(0, len(accounts), _AT_ONCE):
                await turn.write(*(_filled(*each, as_of_s) for each in accounts[first : first + _AT_ONCE]))
            await turn.declare((_RESTORED, as_of_s, 0), (_ALIVE, as_of_s, 0), (_UNSETTLED, "", 0))

    def _now_s(self, found: Found) -> float:
        return found.now_s if self._clock is None else self._clock.now()

    async def _swap(self, read: Mapping[str, bytes | None], documents: Sequence[_Document]) -> Found:
        """Write, and compare all that was read: what did not change must not have changed under us either."""
        new = {document.name: document for document in documents}
        words: list[bytes | str | int] = []
        for name, before in read.items():
            document = new.get(name)
            if document is None:
                words += [before or b"", before or b"", 0, ""]
            else:
                words += [before or b"", document.text, max(1, round(document.life_s * 1000)), document.place]
        found = await self._line.run(SWAP, [_INDEX, *read], *words)
        if not found.documents:
            self._guess.saw({name: document.text.encode() for name, document in new.items()}, found.now_s)
        return found


def _names(touched: Touched) -> list[str]:
    accounts = [key("account", account) for account in touched.accounts]
    return accounts + [key("reservation", touched.tenant_id, name) for name in touched.reservation_ids]


def _booking(touched: Touched, documents: Sequence[bytes | None], now_s: float) -> Booking:
    """Return what is still held: Redis drops the rest, a little later by its clock than by the ledger's."""
    count = len(touched.accounts)
    balances = zip(touched.accounts, documents[:count], strict=True)
    reservations = zip(touched.reservation_ids, documents[count:], strict=True)
    held = {account: codec.balance_from_json(text) for account, text in balances if text}
    known = {name: codec.reservation_from_json(text) for name, text in reservations if text}
    return Booking(
        {account: balance for account, balance in held.items() if balance.empty_from_s > now_s},
        {name: each for name, each in known.items() if each.changed_s + _kept_s(each.state) > now_s},
    )


def _documents(touched: Touched, before: Booking, outcome: Outcome) -> list[_Document]:
    """Return what is other than before."""
    documents = [
        _Document(key("account", account), codec.balance_to_json(balance), _life_s(balance, outcome.now_s))
        for account, balance in outcome.booking.balances.items()
        if before.balances.get(account) != balance
    ]
    changed = (r for name, r in outcome.booking.reservations.items() if before.reservations.get(name) != r)
    return documents + [_of_reservation(touched.tenant_id, reservation) for reservation in changed]


def _filled(account: AccountId, balance: Balance, now_s: float) -> Written:
    return key("account", account), codec.balance_to_json(balance), round(1000 * _life_s(balance, now_s))


def _life_s(balance: Balance, now_s: float) -> float:
    return max(0.0, balance.empty_from_s - now_s) + _MARGIN_S


def _of_reservation(tenant_id: TenantId, reservation: Reservation) -> _Document:
    place = f"{reservation.reserved_s:.6f}" if reservation.state is State.TENTATIVE else "-"
    name = key("reservation", tenant_id, reservation.hold.reservation_id)
    life_s = _kept_s(reservation.state) + _MARGIN_S
    return _Document(name, codec.reservation_to_json(reservation), life_s, place)


def _kept_s(state: State) -> float:
    return _KEPT_S.get(state, _OVER_KEPT_S)
