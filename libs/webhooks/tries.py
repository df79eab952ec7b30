"""What a report makes of a delivery. Pure; every store applies it.

A delivery that fails is tried again at a random moment of a window that grows from 5 s to 4 h, for 24 h after its
event; the last try is at the end of that day. Then it is dead.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

TRIED_FOR_S = 24 * 3600.0
FIRST_WINDOW_S, GROWTH, LAST_WINDOW_S = 5.0, 4.0, 4 * 3600.0
LEAST_WAIT_S = 1.0
_GROWS = 16  # times at most: beyond them the window is at its widest, and the power would overflow


class Fate(enum.Enum):
    """What came of a delivery; the values stand in its row."""

    WAITING = "waiting"  # it is tried, now or later
    DELIVERED = "delivered"  # its receiver took it
    DEAD = "dead"  # it failed for as long as deliveries are tried
    GONE = "gone"  # nobody wants it there any more


class Told(enum.Enum):
    """What a claimer says of its try."""

    DELIVERED = "delivered"  # a 2xx answer
    FAILED = "failed"  # anything else
    GONE = "gone"  # 410
    RETURNED = "returned"  # not tried


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a delivery stands. `due_at` is when it may be claimed, in Unix seconds; None: it is over."""

    tries: int  # claims so far that were not given back
    due_at: float | None
    fate: Fate
    status: int  # HTTP status of the latest try that was answered
    reason: str  # why the latest try failed


class Kept(Protocol):
    """A delivery of any kind as its store keeps it; `time` is that of its event."""

    @property
    def time(self) -> float: ...
    @property
    def tries(self) -> int: ...
    @property
    def due_at(self) -> float | None: ...
    @property
    def fate(self) -> Fate: ...
    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Reported(Protocol):
    """What came of try number `tries`. `roll`, from 0 to 1, spreads the next try."""

    @property
    def tries(self) -> int: ...
    @property
    def told(self) -> Told: ...
    @property
    def now(self) -> float: ...
    @property
    def roll(self) -> float: ...
    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def retry_after_s(self) -> float: ...


def reported(delivery: Kept, report: Reported) -> Standing | None:
    """Return where a delivery stands after a try; None when that changes nothing.

    That it arrived, or is wanted by nobody, holds whoever has claimed it since; that it failed or was given back does not.
    """
    mine = report.told in (Told.DELIVERED, Told.GONE) or report.tries == delivery.tries
    if delivery.due_at is None or not mine:
        return None
    if report.told is Told.RETURNED:
        tries = max(0, delivery.tries - 1)
        return Standing(tries, report.now, delivery.fate, delivery.status, delivery.reason)
    if report.told is Told.FAILED:
        due_at = next_try_at(delivery.time, report)
        fate = Fate.DEAD if due_at is None else Fate.WAITING
        return Standing(delivery.tries, due_at, fate, report.status, report.reason)
    fate = Fate.DELIVERED if report.told is Told.DELIVERED else Fate.GONE
    return Standing(delivery.tries, None, fate, report.status, report.reason)


def next_try_at(time: float, report: Reported) -> float | None:
    """Return when a delivery of an event at `time` that failed is tried again; None when it has been for long enough."""
    last_at = time + TRIED_FOR_S
    if report.now >= last_at:
        return None
    window_s = min(LAST_WINDOW_S, FIRST_WINDOW_S * GROWTH ** min(_GROWS, max(0, report.tries - 1)))
    wait_s = max(LEAST_WAIT_S, report.roll * window_s, min(report.retry_after_s, LAST_WINDOW_S))
    return min(last_at, report.now + wait_s)
