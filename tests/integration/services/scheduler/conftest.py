"""Real databases for tests of the store (a PostgreSQL of the session, and files), and what a scheduler needs to run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from libs import secret_files
from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.devstack.postgres import PostgresServer
from libs.testing.etcd import EtcdServer
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.settings import Settings
from tests.contract.job_store.emptying import empty
from tests.integration.services.scheduler.peers import OPERATOR, TOKEN


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    """A server whose own database is migrated."""
    async with PostgresServer() as server:
        await upgrade(server.url)
        yield server


@pytest.fixture
async def postgres_url(postgres: PostgresServer) -> str:
    """A PostgreSQL database with empty tables."""
    return await empty(postgres.url)


@pytest.fixture
async def sqlite_url(tmp_path: Path) -> str:
    """An SQLite file with empty tables."""
    url = f"sqlite+aiosqlite:///{tmp_path}/scheduler.db"
    await upgrade(url)
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database with empty tables, on each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgres"])
async def bare_url(request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[str]:
    """A database without tables, on each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/bare.db"
        return
    server = create_async_engine(postgres.url, isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.execute(text("CREATE DATABASE bare"))
        yield make_url(postgres.url).set(database="bare").render_as_string(hide_password=False)
        await connection.execute(text("DROP DATABASE bare WITH (FORCE)"))
    await server.dispose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def etcd() -> AsyncIterator[EtcdServer]:
    """An etcd of the test file."""
    async with EtcdServer() as server:
        yield server


@pytest.fixture
async def registry(etcd: EtcdServer) -> AsyncIterator[EtcdRegistry]:
    """Where workers announce themselves."""
    async with EtcdClient([etcd.endpoint]) as client:
        yield EtcdRegistry(client, SystemClock())


@pytest.fixture
def settings(tmp_path: Path, etcd: EtcdServer) -> Settings:
    """A lone scheduler on a file, in a folder with its secrets; its limiter is away."""
    (tmp_path / "secrets").mkdir()
    for name, value in ((secret_files.MESH_TOKEN, TOKEN), (secret_files.OPERATOR_TOKEN, OPERATOR)):
        secret_files.write_private(tmp_path / "secrets" / name, value)
    return Settings(data=tmp_path, limiter_address="127.0.0.1:1", etcd_endpoints=(etcd.endpoint,), drain_s=5.0)
