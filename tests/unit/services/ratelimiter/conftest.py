"""A limiter on a clock that stands still, with usage in a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from libs.ids import JobId
from libs.testing.clock import ManualClock
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from services.ratelimiter.ledgers.rebuilding import Rebuilder
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.meters import Meters
from services.ratelimiter.tiers.policy import ANONYMOUS, Limits, Policy
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage.book import DayTotal, UsageRow

LIMITS = Limits("pro", requests=Rate(60, 30), units=Rate(1000, 1000))
ANONYMOUS_LIMITS = Limits(ANONYMOUS, requests=Rate(5, 5), units=Rate(100, 200))


@dataclass
class FakeUsage:
    """Keeps one row a job, like the promise says."""

    rows: dict[JobId, UsageRow] = field(default_factory=dict)

    async def record(self, row: UsageRow) -> bool:
        key = row.settlement.hold.reservation_id
        return self.rows.setdefault(key, row) is row

    async def has(self, job_id: JobId) -> bool:
        return job_id in self.rows

    async def since(self, settled_s: float) -> Sequence[UsageRow]:
        return sorted((r for r in self.rows.values() if r.settled_s >= settled_s), key=lambda r: r.settled_s)

    async def day_totals(self, begin_s: float) -> Sequence[DayTotal]:
        return [
            DayTotal(
                r.settlement.hold, r.settlement.charge.day_images(r.settlement.hold.images), r.settlement.charged_units
            )
            for r in self.rows.values()
            if r.settled_s >= begin_s and (r.reserved_s or r.settled_s) >= begin_s
        ]


@dataclass
class Bench:
    """A limiter and what stands around it; `restart` loses everything but usage."""

    clock: ManualClock = field(default_factory=ManualClock)
    usage: FakeUsage = field(default_factory=FakeUsage)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        self.provider = MeterProvider([self.reader])
        self.meters = Meters(self.provider.get_meter("test"))
        self.restart()

    def restart(self) -> None:
        tariffs = Tariffs(Policy({"pro": self.limits, ANONYMOUS: ANONYMOUS_LIMITS}))
        ledger = MemoryLedger(self.clock)
        self.limiter = Limiter(tariffs, ledger, self.usage, self.clock, self.meters)
        self._rebuilder = Rebuilder(tariffs, ledger, self.usage)

    async def rebuild(self) -> int:
        """Do what a start does."""
        return await self._rebuilder.rebuild(self.clock.now())

    def counted(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the values of a counter by its sorted labels."""
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        points = next(metric for metric in metrics if metric.name == name).data.data_points
        return {
            tuple(sorted((key, str(value)) for key, value in point.attributes.items())): point.value for point in points
        }


@pytest.fixture
def bench() -> Bench:
    return Bench()
