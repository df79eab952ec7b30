"""Every ledger on a clock that a test moves, and the steps of a reservation on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio

from libs.ids import JobId, TenantId
from libs.testing.clock import ManualClock
from libs.testing.redis import RedisServer
from services.ratelimiter.balances import booking
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.booking import Move, Outcome, Touched
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.balances.causes import NOTHING, Charge
from services.ratelimiter.balances.reservation import Hold, Reservation, Step
from services.ratelimiter.balances.scope import Scope, scopes_of
from services.ratelimiter.ledgers.ledger import Ledger
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from services.ratelimiter.ledgers.redis_ledger import RedisLedger
from services.ratelimiter.ledgers.redis_line import RedisLine
from services.ratelimiter.tiers.policy import Limits

LIMITS = Limits("pro", requests=Rate(600, 300), units=Rate(1000, 1000))
TENANT = TenantId("t")
ADAPTERS = ("memory", "redis")


def hold(name: str, units: float = 100.0, tenant: TenantId = TENANT, images: int = 2) -> Hold:
    return Hold(JobId(name), tenant, "pro", units, images)


@dataclass
class Desk:
    """A ledger and the calls that a limiter makes on it, with limits that a test chooses."""

    ledger: Ledger
    clock: ManualClock
    limits: Limits = field(default_factory=lambda: LIMITS)

    def scopes(self, of: Hold) -> tuple[Scope, ...]:
        return scopes_of(of.tenant_id, self.limits, of.address)

    async def reserve(self, of: Hold) -> Outcome:
        return await self.step(Step.RESERVE, of)

    async def step(self, step: Step, of: Hold, charge: Charge = NOTHING, reserved_s: float | None = None) -> Outcome:
        move = Move(step, of, self.scopes(of), charge, reserved_s)
        return await self.ledger.transact(move.touched, lambda held, now_s: booking.apply(held, move, now_s))

    async def renew(self, *holds: Hold, lease_s: float = booking.LEASE_S) -> tuple[JobId, ...]:
        scopes = self.scopes(holds[0])
        asked = Move(Step.CONFIRM, holds[0], scopes).touched
        touched = replace(asked, reservation_ids=tuple(each.reservation_id for each in holds))
        outcome = await self.ledger.transact(
            touched, lambda held, now_s: booking.renew(held, touched, scopes, lease_s, now_s)
        )
        return outcome.unknown

    async def balance(self, of: Hold | None = None, account: int = 0) -> Balance:
        """Return the balance of the tenant of a hold, or of another of its accounts by number."""
        scope = self.scopes(of or hold(""))[account]
        held, _ = await self.ledger.read(Touched((of or hold("")).tenant_id, (scope.account,)))
        return held.balances.get(scope.account, Balance())

    async def find(self, name: str, tenant: TenantId = TENANT) -> Reservation | None:
        held, _ = await self.ledger.read(Touched(tenant, (), (JobId(name),)))
        return held.reservations.get(JobId(name))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis() -> AsyncIterator[RedisServer]:
    """One server for all tests of this folder; each empties it."""
    async with RedisServer() as server:
        yield server


@pytest.fixture
async def line(redis: RedisServer) -> AsyncIterator[RedisLine]:
    """A line to an empty Redis that is known to be whole."""
    opened = RedisLine(redis.url, deadline_s=10.0)
    await opened.command(("FLUSHALL",))
    await RedisLedger(opened).restore({}, 0.0)
    yield opened
    await opened.close()


@pytest.fixture(params=ADAPTERS)
def desk(request: pytest.FixtureRequest) -> Desk:
    clock = ManualClock()
    if request.param == "memory":
        return Desk(MemoryLedger(clock), clock)
    return Desk(RedisLedger(request.getfixturevalue("line"), clock), clock)
