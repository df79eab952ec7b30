"""What the device's time went into since this process began: drawing, loading, or nothing.

Looked at once a second: what the engine's passes took of that second was drawing; of the rest all was loading if a
model is on its way just then, else idle. Work beside the passes on a GPU (encoding, decoding) counts as idle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from libs.clock import Clock

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Milliseconds since the start; together as long as the process has been looked at."""

    busy_ms: float = 0.0
    loading_ms: float = 0.0
    idle_ms: float = 0.0


class DeviceTime:
    """Counts while `run` runs. `tick_s` tells the seconds in passes so far, `loads` whether a model is on its way."""

    def __init__(self, tick_s: Callable[[], float], loads: Callable[[], bool], clock: Clock) -> None:
        self._tick_s, self._loads, self._clock = tick_s, loads, clock
        self._looked_s, self._ticked_s = clock.monotonic(), tick_s()
        self.spent = Spent()

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            await self._clock.sleep(EVERY_S)
            self.look()

    def look(self) -> Spent:
        """Take in the time since the last look, and return what was spent so far."""
        now_s, ticked_s, spent = self._clock.monotonic(), self._tick_s(), self.spent
        passed_ms = 1000.0 * (now_s - self._looked_s)
        busy_ms = min(passed_ms, 1000.0 * (ticked_s - self._ticked_s))
        loading_ms = passed_ms - busy_ms if self._loads() else 0.0
        idle_ms = passed_ms - busy_ms - loading_ms
        self._looked_s, self._ticked_s = now_s, ticked_s
        self.spent = Spent(spent.busy_ms + busy_ms, spent.loading_ms + loading_ms, spent.idle_ms + idle_ms)
        return self.spent
