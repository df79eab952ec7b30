"""Both kinds of database: a SQLite file, and one PostgreSQL server for all tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from libs.devstack.postgres import PostgresServer
from libs.sql.engines import Engines, open_engines
from libs.sql.transactions import Transactions

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
    name = f"test_{uuid4().hex}"
    engine = create_async_engine(server.url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return make_url(server.url).set(database=name).render_as_string(hide_password=False)


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
