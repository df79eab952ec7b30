"""Making a ledger in Redis whole again, by processes that end over it and others that go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.metrics import MeterProvider

from libs.clock import SystemClock
from libs.errors import Unavailable
from libs.ids import JobId, KeyId, TenantId
from libs.testing.redis import RedisServer
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers.redis_ledger import RedisLedger
from services.ratelimiter.ledgers.redis_line import LedgerAway, RedisLine
from services.ratelimiter.ledgers.restoring import Restorer
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.meters import Meters
from services.ratelimiter.tiers.policy import Limits, Policy
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage.book import DayTotal, Settlement, UsageRow

# So slow that nothing drains while a test runs.
LIMITS = Limits("pro", requests=Rate(600, 600), units=Rate(0.01, 1000))
TENANT = TenantId("t")


@dataclass
class Usage:
    """A database that a test makes go away."""

    rows: list[UsageRow] = field(default_factory=list)
    is_away: bool = False

    async def record(self, row: UsageRow) -> bool:
        self.rows.append(row)
        return True

    async def has(self, job_id: JobId) -> bool:
        return any(row.settlement.hold.reservation_id == job_id for row in self.rows)

    async def since(self, settled_s: float) -> Sequence[UsageRow]:
        if self.is_away:
            raise Unavailable("a test")
        return [row for row in self.rows if row.settled_s >= settled_s]

    async def day_totals(self, begin_s: float) -> Sequence[DayTotal]:
        return []


class Process:
    """What one rate limiter has."""

    def __init__(self, server: RedisServer, usage: Usage) -> None:
        self.line = RedisLine(server.url, deadline_s=10.0)
        self.ledger, clock = RedisLedger(self.line), SystemClock()
        tariffs = Tariffs(Policy({"pro": LIMITS}))
        meters = Meters(MeterProvider().get_meter("test"))
        self.limiter = Limiter(tariffs, self.ledger, usage, clock, meters)
        self.restorer = Restorer(self.ledger, self.limiter, tariffs, usage, clock)

    async def left(self) -> float:
        return (await self.limiter.peek(hold("any", 0.0))).available_units


def hold(name: str, units: float = 100.0) -> Hold:
    return Hold(JobId(name), TENANT, "pro", units, 1)


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as started:
        yield started


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest.fixture
async def processes(server: RedisServer, usage: Usage) -> AsyncIterator[list[Process]]:
    started = [Process(server, usage) for _ in range(2)]
    yield started
    for each in started:
        await each.line.close()


async def test_what_one_process_did_not_get_to_settle_again_another_settles(
    server: RedisServer, usage: Usage, processes: list[Process]
):
    one, other = processes
    await one.restorer.ensure()
    await one.limiter.reserve(hold("job"))
    await one.ledger.forget(0)  # as every second: it lived
    # The row of the settlement was written; what Redis was told of it is lost with its last moment.
    settled = Settlement(hold("job"), KeyId(""), "tiny@1", "succeeded", 30.0, 30.0, 30.0, 1)
    usage.rows.append(UsageRow(settled, SystemClock().now(), None))
    usage.is_away = True
    await server.restart()
    with pytest.raises(LedgerAway):
        await one.left()
    with pytest.raises(Unavailable, match="a test"):
        await one.restorer.ensure()
    usage.is_away = False
    await other.restorer.ensure()
    assert await other.left() == pytest.approx(970, abs=1)
    await one.restorer.ensure()  # once
    assert await one.left() == pytest.approx(970, abs=1)
    assert await one.ledger.unsettled_s() is None


async def test_of_two_that_find_it_empty_the_second_leaves_what_was_decided_since(processes: list[Process]):
    one, other = processes
    assert await one.ledger.adopt() is None
    assert await other.ledger.adopt() is None
    await one.ledger.restore({}, 0.0)
    await one.limiter.reserve(hold("job"))
    await other.ledger.restore({AccountId(f"tenant:{TENANT}"): Balance(empty_from_s=SystemClock().now() + 60)}, 5.0)
    assert await other.ledger.restored_s() == 0.0
    assert await other.left() == pytest.approx(900, abs=1)
