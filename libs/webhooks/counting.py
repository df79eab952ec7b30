"""How many deliveries wait, counted now and then: claims come every second from every gateway."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from libs.clock import Clock

MOST_COUNTED = 10_000  # counting more would cost more than it tells
COUNTED_EVERY_S = 15.0  # as often as anybody looks at the number


class Waiting:
    """The number as it was counted last. `count` counts, up to a bound that it is given."""

    def __init__(self, count: Callable[[int], Awaitable[int]], clock: Clock) -> None:
        self._count, self._clock = count, clock
        self._waiting, self._counted_at = 0, -math.inf

    async def deliveries(self) -> int:
        """Return how many wait."""
        now = self._clock.monotonic()
        if now - self._counted_at >= COUNTED_EVERY_S:
            self._counted_at = now  # first, so that claims at this moment do not count as well
            self._waiting = await self._count(MOST_COUNTED)
        return self._waiting
