"""The history of the tables leads to the tables that the code uses, on both databases."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from libs.sql.engines import open_engines
from libs.sql.migrations import config
from services.scheduler.migrations.upgrade import HISTORY, upgrade
from services.scheduler.storage.sql_schema import metadata
from services.scheduler.storage.sql_store import SqlStore, open_store
from services.scheduler.storage.store import StoreUnavailable
from tests.contract.job_store.samples import queued, running

STARTING = """
import asyncio, sys
from services.scheduler.migrations.upgrade import upgrade
asyncio.run(upgrade(sys.argv[1]))
"""


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"version_table": "scheduler_version", "compare_type": True})
    return list(compare_metadata(context, metadata))


def down_and_up(connection: Connection) -> list[str]:
    command.downgrade(config(HISTORY, connection), "base")
    left = inspect(connection).get_table_names()
    command.upgrade(config(HISTORY, connection), "head")
    return left


async def test_the_history_leads_to_the_tables_of_the_code_and_back(bare_url: str) -> None:
    await upgrade(bare_url)
    engines = open_engines(bare_url, timeout_s=30.0)
    async with engines.write.begin() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(down_and_up) == ["scheduler_version"]
        assert await connection.run_sync(differences) == []
    await engines.close()


async def test_processes_that_start_together_upgrade_once_and_keep_what_is_there(bare_url: str, tmp_path: Path) -> None:
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", STARTING, bare_url, cwd=tmp_path)
        for _ in range(3)
    ]
    async with asyncio.timeout(60):
        assert [await process.wait() for process in processes] == [0, 0, 0]
    store = open_store(bare_url)
    job = await queued(store)
    await upgrade(bare_url)
    assert await store.get(job.id) == job
    await store.close()


async def test_attempts_of_before_the_checkpoints_are_still_there(bare_url: str) -> None:
    await upgrade(bare_url)
    engines = open_engines(bare_url, timeout_s=30.0)
    store = SqlStore(engines)
    await store.take_lead("scheduler-0", 0.0)
    job = await running(store)
    before = await store.attempts(job.id)
    async with engines.write.begin() as connection:
        await connection.run_sync(lambda sync: command.downgrade(config(HISTORY, sync), "0001"))
        await connection.run_sync(lambda sync: command.upgrade(config(HISTORY, sync), "head"))
    assert await store.attempts(job.id) == before
    await store.close()


async def test_a_database_that_is_away_is_said_to_be_away(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await upgrade("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable):
        await upgrade(f"sqlite+aiosqlite:///{tmp_path}/no/such/folder/scheduler.db")
