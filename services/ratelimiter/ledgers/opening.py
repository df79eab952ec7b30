"""Which ledger is in use: that of this process alone, or one in Redis for several, with what stands in for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from libs.clock import Clock
from services.ratelimiter.decider import Decider
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from services.ratelimiter.ledgers.rebuilding import Rebuilder
from services.ratelimiter.ledgers.redis_ledger import RedisLedger
from services.ratelimiter.ledgers.redis_line import TRIES, RedisLine
from services.ratelimiter.ledgers.restoring import Restorer
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.meters import Meters
from services.ratelimiter.outages.breaker import Breaker
from services.ratelimiter.outages.journal import Journal
from services.ratelimiter.outages.outage import OutageLimiter, Standby
from services.ratelimiter.outages.recovery import Recovery
from services.ratelimiter.outages.stand_in import StandIn
from services.ratelimiter.settings import Settings
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage.book import UsageBook

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Deciding:
    """Who decides, what is to be done before the first call, the loops to run beside it, and how it ends."""

    decider: Decider
    begin: Step
    loops: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    close: Step


@dataclass(frozen=True, slots=True)
class Around:
    """What every ledger needs."""

    tariffs: Tariffs
    usage: UsageBook
    clock: Clock
    meters: Meters


def chosen(settings: Settings, around: Around) -> Deciding:
    """Return what the settings ask for."""
    return _in_redis(settings, around) if settings.redis else _in_memory(settings, around)


def _in_memory(settings: Settings, around: Around) -> Deciding:
    ledger = MemoryLedger(around.clock)
    limiter = Limiter(around.tariffs, ledger, around.usage, around.clock, around.meters, settings.lease_s)
    rebuilder = Rebuilder(around.tariffs, ledger, around.usage)
    return Deciding(limiter, lambda: rebuilder.rebuild(around.clock.now()), (), _nothing)


async def _nothing() -> None:
    """Do nothing."""


def _in_redis(settings: Settings, around: Around) -> Deciding:
    tariffs, usage, clock, meters = around.tariffs, around.usage, around.clock, around.meters
    line = RedisLine(settings.redis, settings.redis_deadline_s)
    ledger = RedisLedger(line)
    whole = Limiter(tariffs, ledger, usage, clock, meters, settings.lease_s)
    breaker = Breaker(failure_s=TRIES * settings.redis_deadline_s)
    journal = Journal(settings.data / "ledger-journal")
    standby = Standby(StandIn(clock), journal, breaker, settings.replicas, settings.lease_s)
    restorer = Restorer(ledger, whole, tariffs, usage, clock)
    recovery = Recovery(whole, standby, restorer, clock, meters, settings.reservation_ttl_s)
    decider = OutageLimiter(whole, standby, tariffs, usage, clock, meters)

    async def begin() -> None:
        await recovery.begin()
        await decider.remember()

    async def close() -> None:
        await line.close()
        journal.close()

    return Deciding(decider, begin, (recovery.run,), close)
