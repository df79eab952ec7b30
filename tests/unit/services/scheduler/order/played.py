"""Devices that take what the real order gives, on made-up time: what its promises are checked with."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import Ordering, Waiting

UNITS_A_SECOND = 1000.0
Whose = tuple[str, TenantId]


@dataclass(slots=True)
class Device:
    """It runs `rows` jobs at once, of the models it is able to run, and keeps `room` of these in memory."""

    rows: int
    room: int
    able: Sequence[str]
    resident: list[str] = field(default_factory=list)  # the last used one last
    running: int = 0

    def begin(self, model: str) -> bool:
        """Take a job; returns whether its model had to be loaded."""
        self.running += 1
        cold = model not in self.resident
        self.resident = [*(other for other in self.resident if other != model), model][-self.room :]
        return cold


@dataclass(frozen=True, slots=True)
class Start:
    """A job that was started, whether by the lane, and who had jobs waiting at that moment."""

    job: Waiting
    at: float
    by_lane: bool
    backlogged: frozenset[Whose]


class Play:
    """An order, and devices behind it. `loads` are units by model, `actual` what a job costs in truth."""

    def __init__(
        self,
        order: Ordering,
        devices: Sequence[Device],
        loads: Mapping[str, float],
        actual: Callable[[Waiting], float] = lambda job: job.units,
    ) -> None:
        self.order, self.devices, self.loads, self._actual = order, devices, loads, actual
        self.waiting: dict[JobId, Waiting] = {}
        self.outstanding: dict[JobId, Waiting] = {}
        self._ends: list[tuple[float, int, Device, JobId, float]] = []
        self._number = 0

    def offer(self, model: str) -> float | None:
        """What it costs to place a job of a model now."""
        free = [device for device in self.devices if model in device.able and device.running < device.rows]
        if not free:
            return None
        return 0.0 if any(model in device.resident for device in free) else self.loads[model]

    def could_start(self) -> list[Waiting]:
        """The waiting jobs that some device would take now."""
        return [job for job in self.waiting.values() if self.offer(job.model_version) is not None]

    def run(self, jobs: Sequence[Waiting]) -> Iterator[Start | None]:
        """Let jobs come when they are queued and give what is next, until all is done; None: nobody is next now."""
        coming = sorted(jobs, key=lambda job: job.queued_at)[::-1]
        now = 0.0
        while True:
            while coming and coming[-1].queued_at <= now:
                self._come(coming.pop(), now)
            yield from self._start_all(now)
            moments = [job.queued_at for job in coming[-1:]] + [end[0] for end in self._ends[:1]]
            if not moments:
                return
            now = min(moments)
            while self._ends and self._ends[0][0] <= now:
                self._end()

    def _come(self, job: Waiting, now: float) -> None:
        self.waiting[job.job_id] = job
        self.order.add(job, now)
        self.order.judge(self._why_never, anew=False)

    def _why_never(self, model: str) -> str | None:
        return None if any(model in device.able for device in self.devices) else "nobody has it"

    def _start_all(self, now: float) -> Iterator[Start | None]:
        while (job := self.order.next(self.offer, now)) is not None:
            backlogged = frozenset((other.tier, other.tenant_id) for other in self.waiting.values())
            used = self.order.lane_used
            self.order.started(job.job_id, now)
            self._begin(self.waiting.pop(job.job_id), now)
            yield Start(job, now, self.order.lane_used > used, backlogged)
        yield None

    def _begin(self, job: Waiting, now: float) -> None:
        model = job.model_version
        free = [device for device in self.devices if model in device.able and device.running < device.rows]
        device = next((device for device in free if model in device.resident), free[0])
        units = self._actual(job)
        took = units + (self.loads[model] if device.begin(model) else 0.0)
        self._number += 1
        self.outstanding[job.job_id] = job
        heapq.heappush(self._ends, (now + took / UNITS_A_SECOND, self._number, device, job.job_id, units))

    def _end(self) -> None:
        _, _, device, job_id, units = heapq.heappop(self._ends)
        device.running -= 1
        del self.outstanding[job_id]
        self.order.settled(job_id, units)


def made(number: int, tier: str, tenant: str, model: str, queued_at: float, units: float, **more: Any) -> Waiting:
    """A job with a running number."""
    return Waiting(JobId(f"job_{number}"), TenantId(tenant), tier, model, queued_at, units, **more)


def devices_of(drawn: random.Random, models: Sequence[str], *, picky: bool = False) -> list[Device]:
    """One to three devices; picky ones are not able to run every model."""
    return [
        Device(
            rows=drawn.randint(1, 2),
            room=drawn.randint(1, 2),
            able=drawn.sample(models, drawn.randint(1, len(models))) if picky else models,
        )
        for _ in range(drawn.randint(1, 3))
    ]
