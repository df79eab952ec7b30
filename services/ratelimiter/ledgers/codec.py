"""Balances and reservations ⇄ JSON, for ledgers that keep bytes. What an earlier version wrote is read with defaults."""

from __future__ import annotations

import json
from typing import Any

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.bucket import Fill
from services.ratelimiter.balances.days import Day
from services.ratelimiter.balances.leases import Lease
from services.ratelimiter.balances.reservation import Hold, Mark, Reservation, State
from services.ratelimiter.balances.scope import AccountId


def balance_to_json(balance: Balance) -> str:
    """Return a balance as text."""
    nested = {name: _fields(getattr(balance, name)) for name in ("requests", "units", "day")}
    return _text(_fields(balance) | nested | {"leases": [_fields(lease) for lease in balance.leases]})


def balance_from_json(text: str | bytes) -> Balance:
    """Return the balance that was written."""
    held = json.loads(text)
    return Balance(
        Fill(**held["requests"]),
        Fill(**held["units"]),
        Day(**held["day"]),
        tuple(Lease(**(lease | {"reservation_id": JobId(lease["reservation_id"])})) for lease in held["leases"]),
        refills=held["refills"],
        empty_from_s=held["empty_from_s"],
    )


def reservation_to_json(reservation: Reservation) -> str:
    """Return a reservation as text."""
    nested = {"hold": _fields(reservation.hold), "marks": [_fields(mark) for mark in reservation.marks]}
    return _text(_fields(reservation) | nested | {"state": reservation.state.value})


def reservation_from_json(text: str | bytes) -> Reservation:
    """Return the reservation that was written."""
    held = json.loads(text)
    hold, marks = held.pop("hold"), held.pop("marks")
    return Reservation(
        **(held | {"state": State(held["state"])}), hold=_hold(hold), marks=tuple(_mark(mark) for mark in marks)
    )


def _hold(held: dict[str, Any]) -> Hold:
    ids = {
        "reservation_id": JobId(held["reservation_id"]),
        "tenant_id": TenantId(held["tenant_id"]),
        "key_id": KeyId(held["key_id"]),
    }
    return Hold(**(held | ids))


def _mark(held: dict[str, Any]) -> Mark:
    return Mark(AccountId(held["account"]), held["used"], held["refills"])


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a slotted dataclass as they are; `dataclasses.asdict` copies all and takes four times as
    long, a quarter of a decision."""
    return {name: getattr(value, name) for name in value.__slots__}


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
