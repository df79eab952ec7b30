"""PostgreSQL going away and coming back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from libs.devstack.postgres import PostgresServer
from libs.sql.engines import open_engines
from services.scheduler.storage.sql_store import SqlStore
from services.scheduler.storage.store import JobStore, StoreUnavailable
from tests.contract.job_store.emptying import empty
from tests.contract.job_store.samples import NOW, a_job, a_success, running

PATIENT_S = 30.0
CALLS: tuple[Callable[[JobStore], Awaitable[object]], ...] = (
    lambda store: store.ping(),
    lambda store: store.accept(a_job(2), []),
    lambda store: store.get(a_job(1).id),
    lambda store: store.end(a_success(a_job(1))),
    lambda store: store.take_lead("another", NOW),
)


@asynccontextmanager
async def opened(url: str, timeout_s: float = PATIENT_S) -> AsyncIterator[SqlStore]:
    store = SqlStore(open_engines(url, timeout_s=timeout_s))
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_server_that_crashes_and_returns(postgres: PostgresServer) -> None:
    await empty(postgres.url)
    async with opened(postgres.url) as store:
        await store.take_lead("scheduler-0", NOW)
        job = await running(store)
        await asyncio.gather(*(store.ping() for _ in range(10)))  # several connections, to be found dead later
        await postgres.stop_immediate()
        try:
            for call in CALLS:
                with pytest.raises(StoreUnavailable):
                    await call(store)
        finally:
            await postgres.start()
        await asyncio.gather(*(store.ping() for _ in range(10)))
        assert await store.get(job.id) == job
        assert not (await store.accept(a_job(2), [])).existing
        assert await store.end(a_success(job)) is not None
        await postgres.stop_immediate()
        await postgres.start()
        await store.ping()  # who did not ask in between notices nothing


async def test_a_server_that_takes_the_connection_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes connections, nobody answers
        url = f"postgresql+asyncpg://a:b@127.0.0.1:{silent.getsockname()[1]}/c"
        async with opened(url, timeout_s=0.2) as store:
            for call in CALLS:
                with pytest.raises(StoreUnavailable):
                    async with asyncio.timeout(PATIENT_S):
                        await call(store)
