"""What one address may do now and then: ten new cookies an hour, a few wrong keys a minute.

Counted in this process: several rate limiters grant several times as much. Nothing that is paid for hangs on it.
"""

from __future__ import annotations

from services.ratelimiter.balances import bucket
from services.ratelimiter.balances.bucket import Fill, Rate

NEWCOMERS = Rate(per_minute=10 / 60, burst=10.0)  # whoever wants more stays without a cookie
_MOST = 20_000  # addresses that are kept, the latest
_EMPTY = Fill()


class Buckets:
    """One bucket for each counted address."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._fills: dict[str, Fill] = {}  # the one that came longest ago first

    def take(self, address: str, now_s: float) -> float:
        """Take one; returns 0, or when none is left the seconds until there is one again."""
        fill = self._fills.pop(address, _EMPTY)
        taken = bucket.take(fill, self._rate, 1.0, now_s)
        self._fills[address] = taken or fill
        while len(self._fills) > _MOST:
            del self._fills[next(iter(self._fills))]
        return 0.0 if taken else bucket.wait_s(fill, self._rate, 1.0, now_s)

    def wait_s(self, address: str, now_s: float) -> float:
        """Return the seconds until one can be taken; takes nothing."""
        return bucket.wait_s(self._fills.get(address, _EMPTY), self._rate, 1.0, now_s)
