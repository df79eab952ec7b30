"""What pictures cost: all of the devices' time, also idle, loading and for nothing, laid on what was drawn. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.clients.device_state import DeviceTime
from libs.clients.limiter_usage import UsageRecord

_MS_PER_HOUR = 3_600_000.0


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
    """Return what the devices' time went into. The parts of drawing are those of jobs that have ended."""
    drawn, succeeded = sum(line.gpu_ms for line in lines), sum(line.succeeded_gpu_ms for line in lines)
    parts = (
        ("pictures of jobs that succeeded", succeeded),
        ("jobs that did not succeed", drawn - succeeded),
        ("lost attempts, open jobs, upkeep", max(0.0, time.busy_ms - drawn)),
        ("loading", time.loading_ms),
        ("idle", time.idle_ms),
    )
    told = [Use(name, ms / _MS_PER_HOUR, rates.of(ms)) for name, ms in parts]
    whole_ms = sum(ms for _, ms in parts)
    return [*told, Use("all", whole_ms / _MS_PER_HOUR, rates.of(whole_ms))]


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
