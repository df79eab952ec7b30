"""What the device's time went into since this process began: drawing, loading, or nothing; and what was drawn in vain.

Looked at once a second: what of that second the device had work, in the engine's passes or beside them, was drawing; of
the rest all was loading if a model is on its way just then, else idle. What an attempt took is known when it ends: it
failed, or it was told to stop. What was handed to another worker goes on from its checkpoint, and is neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from libs.clock import Clock
from libs.generation.attempt import FailureKind
from services.modelserver.events import Done, Failed

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Milliseconds since the start; the first three together as long as the process has been looked at.

    Of those that were busy `failed_ms` were of attempts that ended without their pictures, and `stopped_ms` of those
    that were told to stop.
    """

    busy_ms: float = 0.0
    loading_ms: float = 0.0
    idle_ms: float = 0.0
    failed_ms: float = 0.0
    stopped_ms: float = 0.0


class DeviceTime:
    """Counts while `run` runs. `busy_s` tells the seconds with work so far, `loads` whether a model is on its way."""

    def __init__(self, busy_s: Callable[[], float], loads: Callable[[], bool], clock: Clock) -> None:
        self._busy_s, self._loads, self._clock = busy_s, loads, clock
        self._looked_s, self._worked_s = clock.monotonic(), busy_s()
        self.spent = Spent()

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            await self._clock.sleep(EVERY_S)
            self.look()

    def look(self) -> Spent:
        """Take in the time since the last look, and return what was spent so far."""
        now_s, worked_s, spent = self._clock.monotonic(), self._busy_s(), self.spent
        passed_ms = 1000.0 * (now_s - self._looked_s)
        busy_ms = min(passed_ms, 1000.0 * (worked_s - self._worked_s))
        loading_ms = passed_ms - busy_ms if self._loads() else 0.0
        idle_ms = passed_ms - busy_ms - loading_ms
        self._looked_s, self._worked_s = now_s, worked_s
        self.spent = replace(
            spent,
            busy_ms=spent.busy_ms + busy_ms,
            loading_ms=spent.loading_ms + loading_ms,
            idle_ms=spent.idle_ms + idle_ms,
        )
        return self.spent

    def ended(self, outcome: Done | Failed) -> None:
        """Take in how an attempt ended."""
        if isinstance(outcome, Done) or outcome.kind is FailureKind.DRAINING:
            return
        spent = self.spent
        if outcome.kind is FailureKind.CANCELLED:
            self.spent = replace(spent, stopped_ms=spent.stopped_ms + outcome.gpu_ms)
        else:
            self.spent = replace(spent, failed_ms=spent.failed_ms + outcome.gpu_ms)
