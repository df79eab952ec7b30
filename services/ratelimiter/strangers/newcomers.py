"""How many new visitors one address may become: ten an hour; whoever wants more stays without a cookie."""

from __future__ import annotations

from services.ratelimiter import bucket
from services.ratelimiter.bucket import Fill, Rate

_RATE = Rate(per_minute=10 / 60, burst=10.0)
_MOST = 20_000  # addresses that are kept, the latest
_NOTHING = Fill()


class Newcomers:
    """Counts them in this process: several rate limiters hand out several times as many, the day stays one."""

    def __init__(self) -> None:
        self._fills: dict[str, Fill] = {}  # the one that came longest ago first

    def admit(self, address: str, now_s: float) -> bool:
        """Whether one more may come from a counted address now; counts it."""
        fill = self._fills.pop(address, _NOTHING)
        taken = bucket.take(fill, _RATE, 1.0, now_s)
        self._fills[address] = taken or fill
        while len(self._fills) > _MOST:
            del self._fills[next(iter(self._fills))]
        return taken is not None
