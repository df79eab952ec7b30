"""The life of a reservation. A step that is not in the table changes nothing: every call may come twice.

FORGOTTEN stands for every reservation that the ledger does not hold: never made, or lost in a restart.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.balance import Amount
from services.ratelimiter.balances.refusal import Ask
from services.ratelimiter.balances.scope import AccountId


class State(enum.Enum):
    """Where a reservation is in its life."""

    FORGOTTEN = "forgotten"  # the ledger does not hold it
    TENTATIVE = "tentative"  # taken; given back unless confirmed in time
    CONFIRMED = "confirmed"  # its job is durable
    SETTLED = "settled"  # the charge has replaced the estimate
    RELEASED = "released"  # given back: its job never came to be
    EXPIRED = "expired"  # given back: nobody confirmed it


class Step(enum.Enum):
    """What can happen to a reservation."""

    RESERVE = "reserve"  # the gateway takes it
    CONFIRM = "confirm"  # the scheduler has committed the job
    SETTLE = "settle"  # the job is over
    RELEASE = "release"  # the gateway gives it back
    EXPIRE = "expire"  # its time to be confirmed is over


TRANSITIONS: Mapping[tuple[State, Step], State] = MappingProxyType(
    {
        (State.FORGOTTEN, Step.RESERVE): State.TENTATIVE,
        (State.RELEASED, Step.RESERVE): State.TENTATIVE,
        (State.EXPIRED, Step.RESERVE): State.TENTATIVE,
        (State.TENTATIVE, Step.CONFIRM): State.CONFIRMED,
        (State.TENTATIVE, Step.SETTLE): State.SETTLED,
        (State.TENTATIVE, Step.RELEASE): State.RELEASED,
        (State.TENTATIVE, Step.EXPIRE): State.EXPIRED,
        (State.CONFIRMED, Step.SETTLE): State.SETTLED,
        # The scheduler's word stands: the job exists, so it is charged again.
        (State.FORGOTTEN, Step.CONFIRM): State.CONFIRMED,
        (State.RELEASED, Step.CONFIRM): State.CONFIRMED,
        (State.EXPIRED, Step.CONFIRM): State.CONFIRMED,
        (State.FORGOTTEN, Step.SETTLE): State.SETTLED,
        (State.RELEASED, Step.SETTLE): State.SETTLED,
        (State.EXPIRED, Step.SETTLE): State.SETTLED,
    }
)
OVER = (State.SETTLED, State.RELEASED, State.EXPIRED)


LIVE = (State.TENTATIVE, State.CONFIRMED)


@dataclass(frozen=True, slots=True)
class Hold:
    """What is reserved, as every later call carries it; the id is the job's.

    `key_id` and `address` say which accounts beside the tenant's are touched; `pixels` and `steps` are those of the
    largest picture.
    """

    reservation_id: JobId
    tenant_id: TenantId
    tier: str
    units: float
    images: int = 1
    key_id: KeyId = KeyId("")
    address: str = ""
    pixels: int = 0
    steps: int = 0

    @property
    def ask(self) -> Ask:
        """What it would take."""
        return Ask(self.units, self.images, self.pixels, self.steps)


@dataclass(frozen=True, slots=True)
class Mark:
    """How an account's units stood right after a reservation was taken; it says later what of it has drained."""

    account: AccountId
    used: float
    refills: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """A hold and where it is in its life; times in Unix seconds. `marks` name the accounts that it stands in.

    `reserved_s` says in which day it counts, and lies ahead where its accounts have reached a day by a clock that was
    fast; `began_s` and `changed_s` never lie ahead of the clock that they were taken from.
    """

    hold: Hold
    state: State
    reserved_s: float
    changed_s: float
    charged_units: float = 0.0
    kept_images: int = 0
    marks: tuple[Mark, ...] = ()

    @property
    def began_s(self) -> float:
        """When its work may have begun, at the latest."""
        return min(self.reserved_s, self.changed_s)

    @property
    def held(self) -> Amount:
        """What of it stands in every account, or stood there and has drained."""
        if self.state in LIVE:
            return Amount(1.0, self.hold.units, self.hold.images, self.hold.units)
        if self.state is State.SETTLED:
            return Amount(1.0, self.charged_units, self.kept_images, self.charged_units)
        return Amount()
