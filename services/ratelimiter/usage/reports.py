"""Usage added up as somebody asks for it. Pure: what may be asked, and how a day is written."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol, TypeAlias

_EPOCH = date(1970, 1, 1)


class Part(enum.Enum):
    """What usage can be added up by; values are the words of the wire."""

    DAY = "day"  # of UTC
    TENANT = "tenant"  # also callers without a key, each by its address or cookie
    KEY = "key"  # empty for calls without one
    MODEL = "model"  # `id@version`


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which usage, and how to add it up. Days are counted since 1970, both ends included; None and "" leave open."""

    by: tuple[Part, ...] = ()
    tenant_id: str = ""
    key_id: str = ""
    model: str = ""
    from_day: int | None = None
    to_day: int | None = None


Place: TypeAlias = tuple[int | str, ...]
"""Where a sum stands among the others: one value for each part, days counted since 1970."""


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What was used in one part; what was not asked to be added up by is None. Times in milliseconds of devices."""

    day: int | None
    tenant_id: str | None
    key_id: str | None
    model_version: str | None
    jobs: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    images: int
    gpu_ms: float
    actual_units: float
    charged_units: float
    micros: int
    succeeded_gpu_ms: float


class Reports(Protocol):
    """Reads usage that was added up by day. Raises Unavailable when it cannot be reached."""

    def read(self, query: UsageQuery) -> AsyncIterator[UsageSum]:
        """Give the sums in the order of the parts, as they are read."""
        ...


class UsagePages(Protocol):
    """Reads the same a page at a time, for people who wait for it. Raises Unavailable."""

    async def page(self, query: UsageQuery, after: Place, most: int) -> Sequence[UsageSum]:
        """Return at most so many sums in the order of the parts, those behind a place; () is the beginning."""
        ...


def day_text(day: int) -> str:
    """Return a day since 1970 like `2026-11-21`."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def day_from(text: str) -> int:
    """Return the days since 1970 of a text like `2026-11-21`, and of no other form; raises ValueError."""
    found = date.fromisoformat(text)
    if found.isoformat() != text:
        raise ValueError(f"{text!r} is not written like 2026-11-21")
    return (found - _EPOCH).days
