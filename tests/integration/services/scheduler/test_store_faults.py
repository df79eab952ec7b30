"""A fault before each statement and before each commit: nothing of the change is there, and it can be done again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from libs.sql.engines import open_engines
from services.scheduler.job import Job
from services.scheduler.storage.sql_schema import metadata
from services.scheduler.storage.sql_store import SqlStore
from services.scheduler.storage.store import StoreUnavailable
from tests.contract.job_store.samples import (
    CONFIRM,
    TENANT,
    a_job,
    a_requeue,
    a_start,
    a_success,
    kinds,
    queued,
    running,
    succeeded,
)

Prepare = Callable[[SqlStore], Awaitable[Job]]
Act = Callable[[SqlStore, Job], Awaitable[object]]


class InjectedFault(Exception):
    """What the fault raises."""


class Faults:
    """Lets so many steps (statements and commits) of the engine pass, then raises once."""

    def __init__(self) -> None:
        self.left = 0
        self.struck = False

    def step(self, *_: Any, **__: Any) -> None:
        if self.struck:
            return
        if self.left == 0:
            self.struck = True
            raise InjectedFault
        self.left -= 1


@contextmanager
def faults_after(steps: int, engine: AsyncEngine) -> Iterator[Faults]:
    faults = Faults()
    faults.left = steps
    names = ("before_cursor_execute", "commit")
    for name in names:
        event.listen(engine.sync_engine, name, faults.step)
    try:
        yield faults
    finally:
        for name in names:
            event.remove(engine.sync_engine, name, faults.step)


async def everything(engine: AsyncEngine) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    async with engine.connect() as connection:
        return {
            name: sorted((tuple(row) for row in await connection.execute(table.select())), key=repr)
            for name, table in metadata.tables.items()
        }


@pytest.fixture
async def engine_and_store(database_url: str) -> AsyncIterator[tuple[AsyncEngine, SqlStore]]:
    engines = open_engines(database_url, timeout_s=30.0)
    store = SqlStore(engines)
    await store.take_lead("scheduler-0", 0.0)
    yield engines.write, store
    await store.close()


async def _nothing_yet(_: SqlStore) -> Job:
    return a_job()


CHANGES: dict[str, tuple[Prepare, Act]] = {
    "accept": (_nothing_yet, lambda store, job: store.accept(job, [CONFIRM])),
    "start": (queued, lambda store, job: store.start(a_start(job))),
    "end": (running, lambda store, job: store.end(a_success(job))),
    "requeue": (running, lambda store, job: store.requeue(a_requeue(job))),
    "cancel": (running, lambda store, job: store.request_cancel(job.id, TENANT)),
    "delete": (succeeded, lambda store, job: store.delete(job.id, TENANT, 0.0)),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_fault_before_the_commit_changes_nothing(
    engine_and_store: tuple[AsyncEngine, SqlStore], name: str
) -> None:
    engine, store = engine_and_store
    prepare, act = CHANGES[name]
    job = await prepare(store)
    before = await everything(engine)
    steps = 0
    while True:
        with faults_after(steps, engine) as faults:
            with suppress(InjectedFault):
                assert await act(store, job)
            if not faults.struck:
                break
        assert await everything(engine) == before, f"after {steps} steps"
        steps += 1
    assert steps >= 3
    assert await everything(engine) != before


async def test_a_caller_that_leaves_at_any_moment_breaks_nothing(
    engine_and_store: tuple[AsyncEngine, SqlStore],
) -> None:
    _, store = engine_and_store
    answers: list[Job | None] = []
    turns = 0  # of the event loop until the caller leaves: from before it asked to after it was done without it
    while not answers or answers[-1] is not None:
        job = await running(store, turns + 1)
        ending = asyncio.create_task(store.end(a_success(job)))
        for _ in range(turns):
            await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait([ending])
        answers.append(await store.end(a_success(job)))
        assert await kinds(store, job) == ["queued", "started", "image", "image", "completed"]
        turns += 1
    assert answers[0] is not None  # it left before it asked


async def test_a_file_that_another_process_keeps_locked_is_away_for_now(sqlite_url: str) -> None:
    store = SqlStore(open_engines(sqlite_url, timeout_s=0.2))
    other = sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await store.accept(a_job(), [CONFIRM])
    await store.ping()  # readers do not mind
    other.execute("ROLLBACK")
    other.close()
    patient = SqlStore(open_engines(sqlite_url, timeout_s=30.0))
    await patient.accept(a_job(), [CONFIRM])
    await store.close()
    assert await patient.open_jobs() == [a_job()]
    assert len(await patient.pending_messages(10, 0.0)) == 1
    await patient.close()
