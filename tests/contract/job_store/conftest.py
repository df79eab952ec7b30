"""Every adapter of the JobStore; PostgreSQL and the migrated SQLite file are made once."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from libs.devstack.postgres import PostgresServer
from libs.sql.engines import open_engines
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.sql_store import SqlStore
from services.scheduler.storage.store import JobStore
from tests.contract.job_store.emptying import empty

PATIENT_S = 30.0  # the machine may be busy; being away has its own tests


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url() -> AsyncIterator[str]:
    async with PostgresServer() as server:
        await upgrade(server.url)
        yield server.url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scheduler") / "template.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "scheduler.db")
        return f"sqlite+aiosqlite:///{tmp_path}/scheduler.db"
    return ""


@pytest.fixture
async def unled_store(url: str) -> AsyncIterator[JobStore]:
    """An empty store that nobody has led."""
    if not url:
        yield MemoryStore()
        return
    if url.startswith("postgresql"):
        await empty(url)
    store = SqlStore(open_engines(url, timeout_s=PATIENT_S))
    yield store
    await store.close()


@pytest.fixture
async def store(unled_store: JobStore) -> JobStore:
    """An empty store that epoch 1 leads."""
    assert await unled_store.take_lead("scheduler-0", 0.0) == 1
    return unled_store
