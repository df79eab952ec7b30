"""So many wrong keys a minute from one address; then 429, which is answered as fast and says nothing about the key.

Right keys are looked for first: whoever has one is not held up by a neighbour who guesses.
"""

from __future__ import annotations

import math

from libs.clock import Clock
from libs.errors import DarkroomError, LimitExceeded, Unauthenticated
from services.ratelimiter.bucket import Rate
from services.ratelimiter.strangers.addresses import counted
from services.ratelimiter.strangers.buckets import Buckets


class WrongKeys:
    """Counts them."""

    def __init__(self, clock: Clock, per_minute: float = 10.0) -> None:
        self._clock, self._rate = clock, Rate(per_minute, max(1.0, per_minute))
        self._buckets = Buckets(self._rate)

    def told(self, error: Unauthenticated, address: str) -> DarkroomError:
        """Return what somebody at an address is told who was not recognised."""
        wait_s = self._buckets.take(counted(address), self._clock.now())
        if not wait_s:
            return error
        again_s = max(1, math.ceil(wait_s))
        return LimitExceeded(
            "Too many requests with a key or token that is not good came from this address. Nothing was charged; look "
            f"at the key, and try again in {again_s} s. Good keys are not held up.",
            reason="RPM_EXHAUSTED",
            metadata={"dimension": "wrong_keys", "limit": f"{self._rate.per_minute:.0f}", "reset_ms": f"{again_s}000"},
            retry_after_s=again_s,
        )
