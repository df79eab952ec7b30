"""GCRA in its leaky-bucket form (ITU-T I.371): what was taken drains at a steady rate, up to `burst` may stand.

The same decisions as the form that keeps a theoretical arrival time, with small numbers instead of Unix times, so
nothing is lost to rounding. Pure: `now_s` is an argument; a clock that steps back counts as standing still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Rate:
    """How much may be taken: `per_minute` in the long run, `burst` at once."""

    per_minute: float
    burst: float

    @property
    def per_s(self) -> float:
        """What drains in a second."""
        return self.per_minute / _MINUTE_S

    @property
    def window_s(self) -> float:
        """A minute, or the time in which a whole burst drains when that is longer."""
        return max(_MINUTE_S, self.burst / self.per_s)

    @property
    def quota(self) -> float:
        """What the window grants; `available` never exceeds it."""
        return max(self.per_minute, self.burst)


UNLIMITED = Rate(1e15, 1e15)  # a number that nothing reaches, so that no sum needs to know of "none"


@dataclass(frozen=True, slots=True)
class Fill:
    """What stood in the bucket at `at_s` (Unix seconds); more than the burst is debt."""

    used: float = 0.0
    at_s: float = 0.0


def drained(fill: Fill, rate: Rate, now_s: float) -> Fill:
    """Return the fill as it is now."""
    passed_s = max(0.0, now_s - fill.at_s)
    return Fill(max(0.0, fill.used - passed_s * rate.per_s), max(now_s, fill.at_s))


def available(fill: Fill, rate: Rate, now_s: float) -> float:
    """Return what could be taken now; below zero in debt."""
    return rate.burst - drained(fill, rate, now_s).used


def wait_s(fill: Fill, rate: Rate, amount: float, now_s: float) -> float:
    """Return the seconds until `amount` fits; infinite when it is more than the burst."""
    if amount > rate.burst:
        return math.inf
    return max(0.0, amount - available(fill, rate, now_s)) / rate.per_s


def full_in_s(fill: Fill, rate: Rate, now_s: float) -> float:
    """Return the seconds until the whole burst is there again."""
    return drained(fill, rate, now_s).used / rate.per_s


def charge(fill: Fill, rate: Rate, amount: float, now_s: float) -> Fill:
    """Take `amount` whether it fits or not; what does not fit becomes debt."""
    now = drained(fill, rate, now_s)
    return Fill(now.used + amount, now.at_s)


def give_back(fill: Fill, rate: Rate, amount: float, now_s: float) -> Fill:
    """Give `amount` back, at most what still stands: what has drained was paid by waiting."""
    now = drained(fill, rate, now_s)
    return Fill(max(0.0, now.used - amount), now.at_s)


def undrained(used: float, since_s: float, rate: Rate, now_s: float) -> float:
    """Return what is left now of what stood in the bucket at an earlier moment."""
    return max(0.0, used - max(0.0, now_s - since_s) * rate.per_s)


def take(fill: Fill, rate: Rate, amount: float, now_s: float) -> Fill | None:
    """Take `amount` if it fits now, else return None."""
    if amount > available(fill, rate, now_s):
        return None
    return charge(fill, rate, amount, now_s)
