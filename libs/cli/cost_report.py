"""What pictures cost: all of the devices' time, also idle, loading and for nothing, laid on what was drawn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from libs.clients.device_state import DeviceTime
from libs.clients.limiter_usage import UsageRecord
from libs.clients.scheduler_devices import DeviceDay
from libs.ids import WorkerId

_MS_PER_HOUR = 3_600_000.0
HOURS = ("busy_hours", "failed_hours", "stopped_hours", "loading_hours", "idle_hours")  # of a DeviceUse


@dataclass(frozen=True, slots=True)
class Rates:
    """Cost of an hour of a device, its kilowatts, and the cost of a kilowatt-hour."""

    hour: float = 0.0
    kw: float = 0.0
    kwh: float = 0.0

    def of(self, ms: float) -> float:
        """Return what milliseconds of a device cost."""
        return ms / _MS_PER_HOUR * (self.hour + self.kw * self.kwh)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of the devices' time, and its cost."""

    name: str
    hours: float
    cost: float


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """One device on one day: its hours with work, of those in vain, the others, and the cost of all."""

    day: str
    worker_id: WorkerId
    device: str
    busy_hours: float
    failed_hours: float
    stopped_hours: float
    loading_hours: float
    idle_hours: float
    cost: float


@dataclass(frozen=True, slots=True)
class PartCost:
    """One day, tenant, key or model: its share of the measured time, and of the cost of all time."""

    part: tuple[str, ...]
    images: int
    gpu_hours: float
    own_cost: float
    full_cost: float

    @property
    def per_image(self) -> float | None:
        """Return the full cost of a picture; None where there was none."""
        return self.full_cost / self.images if self.images else None


def uses(time: DeviceTime, lines: Sequence[UsageRecord], rates: Rates) -> list[Use]:
    """Return what the devices' time went into. What succeeded is known when a job has ended; the rest devices told."""
    succeeded = sum(line.succeeded_gpu_ms for line in lines)
    others_ms = time.busy_ms - succeeded - time.failed_ms - time.stopped_ms
    parts = (
        ("pictures of jobs that succeeded", succeeded),
        ("attempts that failed", time.failed_ms),
        ("attempts that were stopped", time.stopped_ms),
        ("open jobs, handed on or lost with a worker, upkeep", max(0.0, others_ms)),
        ("loading", time.loading_ms),
        ("idle", time.idle_ms),
    )
    told = [Use(name, ms / _MS_PER_HOUR, rates.of(ms)) for name, ms in parts]
    whole_ms = sum(ms for _, ms in parts)
    return [*told, Use("all", whole_ms / _MS_PER_HOUR, rates.of(whole_ms))]


def of_devices(days: Sequence[DeviceDay], rates: Rates) -> list[DeviceUse]:
    """Return what each device did on each day."""
    return [
        DeviceUse(
            day.day,
            day.worker_id,
            day.device,
            day.time.busy_ms / _MS_PER_HOUR,
            day.time.failed_ms / _MS_PER_HOUR,
            day.time.stopped_ms / _MS_PER_HOUR,
            day.time.loading_ms / _MS_PER_HOUR,
            day.time.idle_ms / _MS_PER_HOUR,
            rates.of(day.time.all_ms),
        )
        for day in days
    ]


def by_day(devices: Sequence[DeviceUse]) -> list[DeviceUse]:
    """Return what all devices did together on each day."""
    days: dict[str, DeviceUse] = {}
    for each in devices:
        before = days.get(each.day)
        sums = (
            {} if before is None else {name: getattr(before, name) + getattr(each, name) for name in (*HOURS, "cost")}
        )
        days[each.day] = replace(each, worker_id=WorkerId(""), device="", **sums)
    return list(days.values())


def parts(lines: Sequence[UsageRecord], columns: Sequence[str], whole_cost: float, rates: Rates) -> list[PartCost]:
    """Return what each part costs: by its own time, and with its share of all the time that nobody can be told for."""
    drawn = sum(line.gpu_ms for line in lines)
    return [
        PartCost(
            tuple(str(getattr(line, column)) for column in columns),
            line.images,
            line.gpu_ms / _MS_PER_HOUR,
            rates.of(line.gpu_ms),
            whole_cost * line.gpu_ms / drawn if drawn else 0.0,
        )
        for line in lines
    ]
