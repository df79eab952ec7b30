"""The leader hears from PostgreSQL what a standby commits, also after the server was gone; time stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.devstack.postgres import PostgresServer
from libs.ids import JobId
from libs.sql.engines import open_engines
from libs.testing import waiting
from services.scheduler.replicas.handover import LOOK_EVERY_S
from services.scheduler.replicas.standby_desk import StandbyDesk
from services.scheduler.scheduler import Scheduler
from services.scheduler.storage.sql_store import SqlStore
from tests.contract.job_store.emptying import empty
from tests.unit.services.scheduler.fakes import TENANT, Bench, job

WITHIN_S, LIFE_S = 30.0, 3600.0


@asynccontextmanager
async def leading(url: str) -> AsyncIterator[tuple[Bench, Scheduler, StandbyDesk]]:
    store, others = (SqlStore(open_engines(url, timeout_s=WITHIN_S)) for _ in range(2))
    bench = Bench(store)
    async with bench.running() as scheduler:
        handing = asyncio.create_task(scheduler.handover.run())
        yield bench, scheduler, StandbyDesk(others, bench.clock, result_life_s=LIFE_S)
        handing.cancel()
        await asyncio.gather(handing, return_exceptions=True)
    await store.close()
    await others.close()


async def until_known(scheduler: Scheduler, job_id: JobId, *, known: bool = True) -> None:
    async def is_so() -> bool:
        return (scheduler.jobs.get(job_id) is not None) is known

    await waiting.until(is_so, WITHIN_S)


async def test_what_a_standby_takes_is_there_at_once(postgres_url: str) -> None:
    async with leading(postgres_url) as (bench, scheduler, standby):
        for _ in range(3):  # the first may be there before the leader listens
            accepted = (await standby.submit(job(bench.clock.now()))).job
            await until_known(scheduler, accepted.id)
        await standby.cancel(accepted.id, TENANT)
        await until_known(scheduler, accepted.id, known=False)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_leader_that_was_cut_off_hears_again(postgres: PostgresServer) -> None:
    await empty(postgres.url)
    async with leading(postgres.url) as (bench, scheduler, standby):
        first = (await standby.submit(job(bench.clock.now()))).job
        await until_known(scheduler, first.id)
        await postgres.stop_immediate()
        await postgres.start()
        second = (await standby.submit(job(bench.clock.now()))).job

        async def is_there() -> bool:
            await bench.clock.advance(LOOK_EVERY_S)  # what failed is tried again
            return scheduler.handover.hears and scheduler.jobs.get(second.id) is not None

        await waiting.until(is_there, WITHIN_S)
        for _ in range(2):
            accepted = (await standby.submit(job(bench.clock.now()))).job
            await until_known(scheduler, accepted.id)
