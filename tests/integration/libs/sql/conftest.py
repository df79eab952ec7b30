"""Both kinds of database: a SQLite file, and one PostgreSQL server for all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text

from libs.devstack.postgres import PostgresServer
from libs.sql.engines import Engines, open_engines
from libs.sql.transactions import Transactions
from tests.databases import new_database

PATIENT_S = 30.0  # the machine may be busy; being away has its own tests


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    async with PostgresServer() as server:
        yield server


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> PostgresServer | None:
    """The server of the kind under test; None for SQLite."""
    return request.getfixturevalue("postgres") if kind == "postgresql" else None


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def url(server: PostgresServer | None, tmp_path: Path) -> str:
    """Address of a database without tables."""
    if server is None:
        return f"sqlite+aiosqlite:///{tmp_path / 'some.db'}"
    return await new_database(server)


@pytest.fixture
def engines(url: str) -> Engines:
    return open_engines(url, timeout_s=PATIENT_S)


@pytest.fixture
async def transactions(engines: Engines) -> AsyncIterator[Transactions]:
    """On a database with the table `counts`, where `a` is 0."""
    opened = Transactions(engines)
    await opened.write(lambda within: within.execute(text("CREATE TABLE counts (name TEXT PRIMARY KEY, n INTEGER)")))
    await opened.write(lambda within: within.execute(text("INSERT INTO counts VALUES ('a', 0)")))
    yield opened
    await opened.close()
