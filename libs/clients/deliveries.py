"""Deliveries of webhooks as a gateway has them, wherever they are kept: what is to be told, and what came of a try.

`job_deliveries` asks the scheduler for those of jobs, `event_deliveries` the rate limiter for those of accounts.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from libs.ids import TenantId


class Outcome(enum.Enum):
    """What came of a try; the values are the names on the wire."""

    DELIVERED = "DELIVERED"  # it was taken
    FAILED = "FAILED"  # it was not, and is tried again
    GONE = "GONE"  # nobody wants it there any more
    RETURNED = "RETURNED"  # it was not tried: somebody else may


@dataclass(frozen=True, slots=True)
class Delivery(abc.ABC):
    """Something that somebody is to be told of; `time` is when it happened, in Unix seconds."""

    tries: int
    tenant_id: TenantId
    url: str
    host: str  # of the URL
    time: float

    @property
    @abc.abstractmethod
    def id(self) -> str:
        """What names it at every try, so that a receiver can tell that it has it already."""

    @property
    @abc.abstractmethod
    def subject(self) -> Mapping[str, object]:
        """What it is about, for the log."""


D = TypeVar("D", bound=Delivery)


@dataclass(frozen=True, slots=True)
class Claimed(Generic[D]):
    """Deliveries that are the claimer's for its lease, and how many are not over in all.

    `unreadable` are its too, and hold no more than their names: a newer service says what is not understood here.
    """

    deliveries: tuple[D, ...]
    waiting: int
    unreadable: tuple[D, ...] = ()


@dataclass(frozen=True, slots=True)
class Busy:
    """Whom a claimer sends enough already: hosts, each for one tenant, and tenants as a whole."""

    receivers: Collection[tuple[TenantId, str]] = ()
    tenants: Collection[TenantId] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a try: the HTTP status if there was an answer, a word for why it failed."""

    outcome: Outcome
    status: int = 0
    reason: str = ""
    retry_after_s: float = 0.0
