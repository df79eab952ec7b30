"""Device time by day of UTC and worker. Pure.

Workers tell what they have spent since they began; what is new since they were last asked belongs to the day of the
asking. A worker that died takes at most the time since then with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.clients.device_state import DeviceTime
from libs.ids import WorkerId

_DAY_S = 86_400
_SLACK_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class DeviceCosts:
    """What an hour of a device costs, the kilowatts that it draws, and what a kilowatt-hour costs."""

    hour: float = 0.0
    kw: float = 0.0
    kwh: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """What one start of a worker has spent in all, as it last told."""

    incarnation: str
    time: DeviceTime


@dataclass(frozen=True, slots=True)
class WorkerDay:
    """What one worker's device spent in a day; `device` is its class."""

    device: str
    time: DeviceTime


@dataclass(slots=True)
class DeviceBook:
    """One day: what each worker spent in it, and what each told last. `asked_s` is when (Unix seconds)."""

    day: int = 0
    days: dict[WorkerId, WorkerDay] = field(default_factory=dict)
    told: dict[WorkerId, Told] = field(default_factory=dict)
    asked_s: float = 0.0

    def turn(self, now_s: float) -> None:
        """Begin another day when it has come; what workers told goes on."""
        if day_of(now_s) != self.day:
            self.day, self.days = day_of(now_s), {}

    def take(self, worker_id: WorkerId, device: str, told: Told, now_s: float) -> None:
        """Add what is new in what a worker tells."""
        before = self.told.get(worker_id)
        self.told[worker_id] = told
        if before is not None and before.incarnation == told.incarnation:
            fresh = told.time.minus(before.time)
        elif told.time.all_ms <= 1000.0 * (now_s - self.asked_s) + _SLACK_MS:
            fresh = told.time  # it began since everybody was asked
        else:
            return  # nobody knows how much of it was counted
        day = self.days.get(worker_id, WorkerDay(device, DeviceTime()))
        self.days[worker_id] = WorkerDay(device, day.time.plus(fresh))

    def keep_only(self, alive: Mapping[WorkerId, str]) -> None:
        """Forget what those told that are gone, by the incarnation that is alive; their days stay."""
        self.told = {worker: told for worker, told in self.told.items() if alive.get(worker) == told.incarnation}

    def to_document(self) -> dict[str, Any]:
        """Return what is kept."""
        return {
            "days": {worker: [day.device, *day.time.as_list()] for worker, day in self.days.items()},
            "told": {worker: [told.incarnation, *told.time.as_list()] for worker, told in self.told.items()},
            "asked_s": self.asked_s,
        }


def from_document(day: int, document: Mapping[str, Any]) -> DeviceBook:
    """Return what was kept; raises one of `unreadable.UNREADABLE` for other things."""
    days = {WorkerId(worker): WorkerDay(*_spent(kept)) for worker, kept in document["days"].items()}
    told = {WorkerId(worker): Told(*_spent(kept)) for worker, kept in document["told"].items()}
    return DeviceBook(day, days, told, _finite(document["asked_s"]))


def _spent(kept: Sequence[Any]) -> tuple[str, DeviceTime]:
    name, *times = kept
    if not isinstance(name, str):
        raise TypeError("a device and a start have names")
    return name, DeviceTime(*map(_finite, times))


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a time is a number")
    return number


def day_of(moment_s: float) -> int:
    """Return the day of UTC, in days since 1970."""
    return int(moment_s // _DAY_S)
