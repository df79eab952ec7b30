"""The service's database on both kinds: a SQLite file, and one PostgreSQL server for all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from libs.devstack.postgres import PostgresServer
from services.ratelimiter import migrate
from services.ratelimiter.sql_database import Database


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    async with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> PostgresServer | None:
    """The server of the kind under test; None for SQLite."""
    return request.getfixturevalue("postgres") if request.param == "postgresql" else None


@pytest.fixture
async def empty_url(server: PostgresServer | None, tmp_path: Path) -> str:
    """Address of a database without tables."""
    return await new_database(server) if server else f"sqlite+aiosqlite:///{tmp_path / 'ratelimiter.db'}"


@pytest.fixture
async def url(empty_url: str) -> str:
    await migrate.upgrade(empty_url)
    return empty_url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, deadline_s=10.0)  # a loaded machine is no failure here
    yield opened
    await opened.close()


async def new_database(server: PostgresServer) -> str:
    name = f"test_{uuid4().hex}"
    engine = create_async_engine(server.url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return make_url(server.url).set(database=name).render_as_string(hide_password=False)
