"""Tiers that allow what they never grant are told of: once in the log, and by a series."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from libs.clients.limiter import Decision, Reservation
from libs.clients.scheduler import Catalog
from libs.generation.cost import CostEntry, CostTable
from libs.generation.model import VIDEO, Model
from libs.testing.clock import ManualClock
from services.gateway.catalog import CatalogView
from services.gateway.tier_watch import TIERS, TierWatch
from tests.unit.services.gateway.fakes import MODEL, FakeLimiter

SERVED = replace(MODEL, workers=1)


@dataclass
class Granting(FakeLimiter):
    """Grants every tier the same, and the free one less."""

    units: float = 600_000.0
    free_units: float = 60_000.0
    headers: tuple[tuple[str, str], ...] = ()
    peeked: list[str] = field(default_factory=list)

    async def peek(self, wanted: Reservation) -> Decision:
        self.peeked.append(wanted.tier)
        granted = self.free_units if wanted.tier == "free" else self.units
        return Decision(None, self.headers, granted, max_pixels=1024 * 1024, max_steps=50)


class Bench:
    """A watch over one model, whose price a test sets."""

    def __init__(self) -> None:
        self.reader, self.limiter, self.view = InMemoryMetricReader(), Granting(), CatalogView()
        meter = MeterProvider(metric_readers=[self.reader]).get_meter("t")
        self.watch = TierWatch(self.limiter, self.view, ManualClock(), meter)

    async def look(self, per_mp: float, *models: Model) -> None:
        costs = CostTable({SERVED.pinned: CostEntry(per_mp=per_mp)})
        self.view.replace(Catalog(1, models, costs, "shapes"))
        await self.watch.look()

    def shares(self) -> dict[str, float]:
        """Return the series by tier."""
        data = self.reader.get_metrics_data()
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points if data else ()
        return {str((each.attributes or {})["tier"]): float(each.value) for each in points}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.__dict__["tier"] for line in caplog.records if line.levelname == "WARNING"]


async def test_prices_that_rise_above_a_tiers_burst_are_told_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.look(440.0, SERVED)
    assert warnings(caplog) == []
    assert set(bench.shares()) == set(TIERS)
    assert max(bench.shares().values()) < 1.0
    for _ in range(3):
        await bench.look(1000.0, SERVED)
    assert warnings(caplog) == ["free"]
    assert [tier for tier, share in bench.shares().items() if share > 1.0] == ["free"]
    bench.limiter.free_units = 600_000.0  # its operator has raised it
    await bench.look(1000.0, SERVED)
    assert max(bench.shares().values()) < 1.0
    bench.limiter.free_units = 60_000.0
    await bench.look(1000.0, SERVED)
    assert warnings(caplog) == ["free", "free"]


async def test_a_model_that_went_away_is_too_dear_no_more(bench: Bench) -> None:
    await bench.look(1000.0, SERVED)
    await bench.look(1000.0)
    assert set(bench.shares().values()) == {0.0}


async def test_a_share_in_an_outage_and_clips_say_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.look(1000.0, replace(SERVED, output=VIDEO))
    bench.limiter.headers = (("x-ratelimit-degraded", "1"),)
    await bench.look(1000.0, SERVED)
    assert warnings(caplog) == []
    assert bench.shares() == {}
