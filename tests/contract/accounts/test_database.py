"""The tables and the connection: migrations, lost servers, waiting writers."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from libs.errors import Unavailable
from libs.ids import KeyId, TenantId
from libs.testing.postgres import PostgresServer
from services.ratelimiter import migrate, schema
from services.ratelimiter.accounts import KeptKey, Key
from services.ratelimiter.database import Database, is_database_url
from services.ratelimiter.sql_accounts import SqlAccounts


def a_key(name: str) -> KeptKey:
    key = Key(KeyId(f"key_{name}"), TenantId("acme"), "pro", "dk_prefix00", name, created_s=0.0)
    return KeptKey(key, hashlib.sha256(name.encode()).digest())


def differences(connection: Connection) -> list[object]:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.build()))


async def test_the_migrations_lead_to_the_schema(database: Database):
    assert await database.read(lambda connection: connection.run_sync(differences)) == []


async def test_migrating_twice_or_at_once_is_harmless(empty_url: str):
    await asyncio.gather(migrate.upgrade(empty_url), migrate.upgrade(empty_url))
    await migrate.upgrade(empty_url)
    database = Database(empty_url, deadline_s=10.0)
    assert await SqlAccounts(database).list(None) == []
    await database.close()


async def test_read_modify_write_loses_nothing(database: Database):
    async def add_one(connection: AsyncConnection) -> None:
        lock = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
        read = await connection.execute(text(f"SELECT created_at FROM tenants WHERE id = 'n'{lock}"))
        await connection.execute(text("UPDATE tenants SET created_at = :n"), {"n": read.scalar_one() + 1})

    await database.write(lambda connection: connection.execute(text("INSERT INTO tenants VALUES ('n', '0', 0)")))
    await asyncio.gather(*(database.write(add_one) for _ in range(20)))
    (row,) = await database.rows(select(text("created_at FROM tenants")))
    assert row == (20,)


async def test_on_sqlite_a_reader_never_waits_for_a_writer_and_a_writer_not_for_ever(tmp_path: Path):
    url = f"sqlite+aiosqlite:///{tmp_path / 'ratelimiter.db'}"
    await migrate.upgrade(url)
    database, hurried = Database(url), Database(url, deadline_s=0.05)

    async def meanwhile(_connection: AsyncConnection) -> None:
        assert await SqlAccounts(database).list(None) == []
        with pytest.raises(Unavailable):
            await SqlAccounts(hurried).add(a_key("hurried"))

    await database.write(meanwhile)
    await SqlAccounts(database).add(a_key("patient"))
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


@pytest.mark.parametrize("at", ["before the statement", "behind it"])
async def test_a_caller_that_leaves_takes_neither_connection_nor_lock_along(database: Database, at: str):
    arrived, left = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        if at == "behind it":
            await connection.execute(insertion)
        arrived.set()
        await left.wait()
        if at == "before the statement":
            await connection.execute(insertion)

    insertion = text("INSERT INTO tenants VALUES ('n', 'pro', 0)")
    leaving = asyncio.create_task(database.write(work))
    await arrived.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    left.set()
    await SqlAccounts(database).add(a_key("next"))
    (tenants,) = await database.rows(select(text("count(*) FROM tenants")))
    assert tenants == (2,)  # what it asked for was done without it


async def test_a_server_that_lets_nobody_in_is_unavailable(postgres: PostgresServer):
    administrator = create_async_engine(postgres.url, isolation_level="AUTOCOMMIT")
    async with administrator.connect() as connection:
        await connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest' CONNECTION LIMIT 0"))
    await administrator.dispose()
    url = make_url(postgres.url).set(username="guest", password="guest").render_as_string(hide_password=False)
    database = Database(url, deadline_s=10.0)
    with pytest.raises(Unavailable):
        await SqlAccounts(database).list(None)
    with pytest.raises(Unavailable):
        await migrate.upgrade(url)
    await database.close()
