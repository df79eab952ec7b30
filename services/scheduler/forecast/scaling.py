"""How many workers an autoscaler is told to keep, on every replica: the leader counts in memory, others in the store."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

from libs.alarm import Alarm
from libs.clock import Clock
from libs.errors import InvalidRequest, Violation
from services.scheduler.forecast import demand
from services.scheduler.forecast.demand import Demand
from services.scheduler.forecast.speeds import PRIOR_S_PER_UNIT
from services.scheduler.pricing import keeper
from services.scheduler.storage.store import JobStore

TARGET_DRAIN_S = 60.0
LOOK_S = 5.0  # how often a watch looks by itself: nobody rings for what another replica accepts
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Trigger:
    """What an autoscaler asks for: one model or all (empty), the time to drain the queue in, and bounds."""

    model: str = ""
    target_drain_s: float = TARGET_DRAIN_S
    least: int = 0
    most: int = _MOST

    def workers(self, found: Demand) -> int:
        """Return how many workers are needed."""
        needed = demand.needed_workers(found.of(self.model), self.target_drain_s)
        return min(max(needed, self.least), self.most)


def trigger_of(metadata: Mapping[str, str]) -> Trigger:
    """Read a trigger's metadata: `model`, `target_drain_s`, `min`, `max`; others are KEDA's own.

    Raises InvalidRequest naming every field that cannot be read.
    """
    bad: list[Violation] = []

    def number(name: str, default: float, least: float) -> float:
        try:
            value = float(metadata.get(name, default))
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            bad.append(Violation(name, f"must be a number from {least:g}"))
        return value

    target_s, low, high = number("target_drain_s", TARGET_DRAIN_S, 0.001), number("min", 0, 0), number("max", _MOST, 0)
    if bad:
        raise InvalidRequest("The trigger's metadata cannot be read.", violations=bad)
    return Trigger(metadata.get("model", ""), target_s, math.ceil(low), math.floor(high))


class Scaling:
    """Answers triggers, once and as a watch."""

    def __init__(self, memory: Callable[[], Demand], store: JobStore, leads: Callable[[], bool], clock: Clock) -> None:
        self._memory = memory
        self._store = store
        self._leads = leads
        self._clock = clock
        self._watches: set[Alarm] = set()
        self._stopping = False

    async def needed(self, trigger: Trigger) -> int:
        """Return how many workers are needed now. Raises StoreUnavailable on a replica that does not lead."""
        return trigger.workers(self._memory() if self._leads() else await self._stored())

    async def watch(self, trigger: Trigger) -> AsyncGenerator[bool, None]:
        """Yield whether any worker is needed, at once and after each change, until the process stops."""
        alarm, told = Alarm(self._clock), None
        self._watches.add(alarm)
        try:
            while not self._stopping:
                active = await self.needed(trigger) > 0
                if active is not told:
                    yield active
                    told = active
                await alarm.wait(self._clock.now() + LOOK_S)
        finally:
            self._watches.discard(alarm)

    def ring(self) -> None:
        """Wake the watches: jobs came, began or ended."""
        for alarm in self._watches:
            alarm.ring()

    def stop(self) -> None:
        """End every watch."""
        self._stopping = True
        self.ring()

    async def _stored(self) -> Demand:
        totals = await self._store.open_totals()
        waits = {total.model_version: (total.jobs, total.units) for total in totals if not total.worker}
        runs = [(total.model_version, total.worker) for total in totals if total.worker]
        prices = await self._store.load_document(keeper.DOCUMENT) or {}
        seconds_per_unit = prices.get("seconds_per_unit", {})
        return demand.measure(waits, runs, lambda model: seconds_per_unit.get(model, PRIOR_S_PER_UNIT))
