"""What stands in Redis under which name, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.ids import TenantId
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.booking import Booking, Outcome, Touched
from services.ratelimiter.balances.reservation import Reservation, State
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers import codec
from services.ratelimiter.ledgers.ledger import Change
from services.ratelimiter.ledgers.redis_line import key
from services.ratelimiter.ledgers.redis_putting import Written

_KEPT_S = {
    State.TENTATIVE: 24 * 3600.0,  # given back long before
    State.CONFIRMED: 8 * 24 * 3600.0,  # longer than a job may wait; later its settlement carries all that is needed
}
_OVER_KEPT_S = 900.0  # repeated calls come within seconds
_MARGIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Document:
    """What shall stand under a name, for how long; `place` as in redis_scripts.SWAP."""

    name: str
    text: str
    life_s: float
    place: str = ""


def names_of(touched: Touched) -> list[str]:
    """Return the names of all that is touched, accounts first."""
    accounts = [key("account", account) for account in touched.accounts]
    return accounts + [key("reservation", touched.tenant_id, name) for name in touched.reservation_ids]


def booking_of(touched: Touched, documents: Sequence[bytes | None], now_s: float) -> Booking:
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


def changed(touched: Touched, before: Booking, outcome: Outcome) -> list[Document]:
    """Return what is other than before."""
    documents = [
        Document(key("account", account), codec.balance_to_json(balance), _life_s(balance, outcome.now_s))
        for account, balance in outcome.booking.balances.items()
        if before.balances.get(account) != balance
    ]
    changed = (r for name, r in outcome.booking.reservations.items() if before.reservations.get(name) != r)
    return documents + [_of_reservation(touched.tenant_id, reservation) for reservation in changed]


def applied(
    changes: Sequence[tuple[Touched, Change]], read: Mapping[str, bytes | None], now_s: float
) -> tuple[list[Outcome], list[Document]]:
    """Apply changes one after the other to what was read; returns their outcomes and what is to be written for all."""
    stands, documents, outcomes = dict(read), dict[str, Document](), list[Outcome]()
    for touched, change in changes:
        before = booking_of(touched, [stands[name] for name in names_of(touched)], now_s)
        outcome = change(before, now_s)
        outcomes.append(outcome)
        for document in changed(touched, before, outcome) if outcome.applied else ():
            stands[document.name], documents[document.name] = document.text.encode(), document
    return outcomes, list(documents.values())


def filled(account: AccountId, balance: Balance, now_s: float) -> Written:
    """Return the document of an account in a ledger that is put together."""
    return key("account", account), codec.balance_to_json(balance), round(1000 * _life_s(balance, now_s))


def _life_s(balance: Balance, now_s: float) -> float:
    return max(0.0, balance.empty_from_s - now_s) + _MARGIN_S


def _of_reservation(tenant_id: TenantId, reservation: Reservation) -> Document:
    place = f"{reservation.changed_s:.6f}" if reservation.state is State.TENTATIVE else "-"
    name = key("reservation", tenant_id, reservation.hold.reservation_id)
    life_s = _kept_s(reservation.state) + _MARGIN_S
    return Document(name, codec.reservation_to_json(reservation), life_s, place)


def _kept_s(state: State) -> float:
    return _KEPT_S.get(state, _OVER_KEPT_S)
