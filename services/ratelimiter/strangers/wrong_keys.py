"""So many wrong keys a minute from one address; then 429, which is answered as fast and says nothing about the key.

Keys that were good lately are known without looking, so that nobody is held up by a neighbour who guesses; of those
that must be looked up, an address that has used up its wrong keys may ask for a few a second.
"""

from __future__ import annotations

import math

from libs.clock import Clock
from libs.errors import DarkroomError, LimitExceeded, Unauthenticated
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.strangers.addresses import counted
from services.ratelimiter.strangers.buckets import Buckets

_LOOKS = Rate(per_minute=180.0, burst=3.0)  # keys of one address that are looked up although it guesses


class WrongKeys:
    """Counts them."""

    def __init__(self, clock: Clock, per_minute: float = 10.0) -> None:
        self._clock, self._rate = clock, Rate(per_minute, max(1.0, per_minute))
        self._buckets, self._looks = Buckets(self._rate), Buckets(_LOOKS)

    def told(self, error: Unauthenticated, address: str) -> DarkroomError:
        """Return what somebody at an address is told who was not recognised."""
        wait_s = self._buckets.take(counted(address), self._clock.now())
        return self._too_many(wait_s) if wait_s else error

    def let_ask(self, address: str) -> None:
        """Let an address have a key looked up. Raises LimitExceeded for one that used up its wrong keys and asks a lot."""
        place, now_s = counted(address), self._clock.now()
        wait_s = self._buckets.wait_s(place, now_s)
        if wait_s and self._looks.take(place, now_s):
            raise self._too_many(wait_s)

    def _too_many(self, wait_s: float) -> LimitExceeded:
        again_s = max(1, math.ceil(wait_s))
        return LimitExceeded(
            "Too many requests with a key or token that is not good came from this address. Nothing was charged; look "
            f"at the key, and try again in {again_s} s. Good keys are not held up.",
            reason="RPM_EXHAUSTED",
            metadata={"dimension": "wrong_keys", "limit": f"{self._rate.per_minute:.0f}", "reset_ms": f"{again_s}000"},
            retry_after_s=again_s,
        )
