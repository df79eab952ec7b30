"""The tables and the connection: migrations, lost servers, waiting writers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from libs.errors import Unavailable
from libs.testing.postgres import PostgresServer
from services.ratelimiter import migrate, schema
from services.ratelimiter.database import Database, is_database_url
from services.ratelimiter.sql_accounts import SqlAccounts


def differences(connection: Connection) -> list[object]:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.build()))


async def test_the_migrations_lead_to_the_schema(database: Database):
    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_twice_or_at_once_is_harmless(empty_url: str):
    await asyncio.gather(migrate.upgrade(empty_url), migrate.upgrade(empty_url))
    await migrate.upgrade(empty_url)
    database = Database(empty_url, deadline_s=10.0)
    assert await SqlAccounts(database).list(None) == []
    await database.close()


async def test_read_modify_write_loses_nothing(database: Database):
    async with database.writing() as connection:
        await connection.execute(text("INSERT INTO tenants VALUES ('n', '0', 0)"))

    async def add_one() -> None:
        lock = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
        async with database.writing() as own:
            read = await own.execute(text(f"SELECT created_at FROM tenants WHERE id = 'n'{lock}"))
            await own.execute(text("UPDATE tenants SET created_at = :n"), {"n": read.scalar_one() + 1})

    await asyncio.gather(*(add_one() for _ in range(20)))
    async with database.reading() as connection:
        assert (await connection.execute(text("SELECT created_at FROM tenants"))).scalar_one() == 20


async def test_on_sqlite_a_reader_never_waits_for_a_writer_and_a_writer_not_for_ever(tmp_path: Path):
    url = f"sqlite+aiosqlite:///{tmp_path / 'ratelimiter.db'}"
    await migrate.upgrade(url)
    database, hurried = Database(url), Database(url, deadline_s=0.05)
    async with database.writing():
        async with hurried.reading() as connection:
            await connection.execute(text("SELECT * FROM usage"))
        with pytest.raises(Unavailable):
            async with hurried.writing():
                pass
    async with database.writing():
        pass
    await hurried.close()
    await database.close()


async def test_a_lost_server_is_unavailable_and_works_again_after_its_restart():
    async with PostgresServer() as server:
        await migrate.upgrade(server.url)
        database = Database(server.url, deadline_s=10.0)
        accounts = SqlAccounts(database)
        assert await accounts.list(None) == []
        await server.stop_immediate()
        with pytest.raises(Unavailable) as caught:
            await accounts.list(None)
        assert caught.value.reason == "LIMITER_DEGRADED"
        with pytest.raises(Unavailable):
            await migrate.upgrade(server.url)
        await server.start()
        assert await accounts.list(None) == []
        await database.close()


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("", True),
        ("sqlite+aiosqlite:////data/x.db", True),
        ("postgresql+asyncpg://u:p@host/db", True),
        ("postgresql://u:p@host/db", False),
        ("x.db", False),
    ],
)
def test_an_address_names_its_driver(url: str, fine: bool):
    assert (is_database_url(url) is None) == fine
