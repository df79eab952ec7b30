"""The service's database on both kinds: a SQLite file, and one PostgreSQL server for all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from libs.devstack.postgres import PostgresServer
from services.ratelimiter import migrate
from services.ratelimiter.sql_database import Database
from tests.databases import new_database


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
