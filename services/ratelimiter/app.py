"""The composition root: the only file that knows which adapters are in use."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from darkroom.ratelimiter.v1 import limiter_service_pb2_grpc
from libs.backoff import Backoff
from libs.clock import Clock, SystemClock
from libs.errors import Unavailable
from libs.roles import RATELIMITER
from libs.rpc import mesh
from libs.rpc.server import RpcServer, wait_for_stop
from libs.telemetry import metrics
from services.ratelimiter import migrate
from services.ratelimiter.abuse.lookout import Lookout
from services.ratelimiter.door import identity as identity_parts
from services.ratelimiter.door.identity import Identity
from services.ratelimiter.expirer import Expirer
from services.ratelimiter.ledgers import opening as ledgers
from services.ratelimiter.ledgers.opening import Around
from services.ratelimiter.meters import Meters
from services.ratelimiter.servicer import LimiterServicer
from services.ratelimiter.settings import Settings
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants import tenancy as tenancy_parts
from services.ratelimiter.tenants.sql_events import SqlTenantEvents
from services.ratelimiter.tenants.tenancy import Tenancy
from services.ratelimiter.tiers.policy import BadTiers
from services.ratelimiter.usage.sql_book import SqlUsage

logger = logging.getLogger(__name__)

SERVICES = ("darkroom.ratelimiter.v1.LimiterService",)


async def main(settings: Settings) -> None:
    """Serve until a stop signal. Exits with 2 when the tiers of the data folder are wrong."""
    try:
        async with running(settings) as server:
            stopped_by = await wait_for_stop()
            logger.info("stopping", extra={"signal": stopped_by})
            await server.drain(settings.drain_s)
    except BadTiers as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


@asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[RpcServer]:
    """Give the server once it is ready: tables current, balances rebuilt. Until then nothing listens."""
    clock = clock or SystemClock()
    database, meters = Database(settings.database), Meters(metrics.meter())
    tenancy = Tenancy(settings, database, clock, meters)
    deciding = ledgers.chosen(settings, Around(tenancy.tariffs, SqlUsage(database), clock, meters))
    limiter, till = deciding.decider, tenancy.till(deciding.decider)
    lookout = Lookout(settings.reputation, SqlTenantEvents(database), clock)
    identity = Identity(settings, database, lookout, clock)
    server = mesh.join(settings.mtls, settings.secrets_folder, RATELIMITER, has_operators=True).server(settings.listen)
    limiter_service_pb2_grpc.add_LimiterServiceServicer_to_server(
        LimiterServicer(limiter, till, lookout.strangers), server.grpc
    )
    identity.add_to(server.grpc, tenancy.tariffs)
    tenancy.add_to(server.grpc, limiter)
    identity.add_door(server.grpc, limiter, meters)
    try:
        await _prepare(clock, lambda: migrate.upgrade(settings.database))
        await _prepare(clock, tenancy.prepare)
        await _prepare(clock, deciding.begin)
        await server.start((*SERVICES, *identity_parts.SERVICES, *tenancy_parts.SERVICES))
        async with asyncio.TaskGroup() as agents:
            expirer = Expirer(limiter, clock, settings.reservation_ttl_s)
            loops = (expirer.run(), *identity.loops(), *lookout.loops(), *tenancy.loops(till, server))
            tasks = [agents.create_task(loop) for loop in (*loops, *(loop() for loop in deciding.loops))]
            await server.set_ready(True)
            yield server
            for task in tasks:
                task.cancel()
        await identity.close()
    finally:
        await server.grpc.stop(None)
        await deciding.close()
        await database.close()


async def _prepare(clock: Clock, step: Callable[[], Awaitable[object]]) -> None:
    """Do a step of the start; as long as the database is away, wait for it."""
    backoff = Backoff()
    while True:
        try:
            await step()
        except Unavailable as error:
            wait_s = backoff.next_s()
            logger.warning("waiting for the database", extra={"reason": error.message, "wait_s": round(wait_s, 1)})
            await clock.sleep(wait_s)
        else:
            return
