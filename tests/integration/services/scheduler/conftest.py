"""Real databases for tests of the store: a PostgreSQL of the session, and files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from libs.devstack.postgres import PostgresServer
from services.scheduler.migrations.upgrade import upgrade
from tests.contract.job_store.emptying import empty


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
