"""The tables, and what is said when the database is away. How transactions behave: tests/integration/libs/sql."""

from __future__ import annotations

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from libs import scopes
from libs.devstack.postgres import PostgresServer
from libs.errors import Unavailable
from services.ratelimiter import migrate, schema
from services.ratelimiter.keys.sql_accounts import SqlAccounts
from services.ratelimiter.sql_database import Database


def differences(connection: Connection) -> list[object]:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.build()))


async def test_the_migrations_lead_to_the_schema(database: Database):
    assert await database.read(lambda connection: connection.run_sync(differences)) == []


async def test_keys_from_before_scopes_may_do_what_they_did(empty_url: str):
    await migrate.upgrade(empty_url, "0001")
    database = Database(empty_url, deadline_s=10.0)
    tenant = "INSERT INTO tenants (id, tier, created_at) VALUES ('acme', 'pro', 1)"
    columns = "id, tenant_id, prefix, sha256, name, created_at"
    key = f"INSERT INTO api_keys ({columns}) VALUES ('key_1', 'acme', 'dk_ABCDEFGH', :sha256, '', 1)"
    await database.write(lambda connection: connection.execute(text(tenant)))
    await database.write(lambda connection: connection.execute(text(key), {"sha256": b"1" * 32}))
    await migrate.upgrade(empty_url)
    (found,) = await SqlAccounts(database).list(None)
    assert (found.scopes, found.expires_s, found.replaced_by) == (scopes.USUAL, None, None)
    await database.close()


async def test_migrating_twice_or_at_once_is_harmless(empty_url: str):
    await asyncio.gather(migrate.upgrade(empty_url), migrate.upgrade(empty_url))
    await migrate.upgrade(empty_url)
    database = Database(empty_url, deadline_s=10.0)
    assert await SqlAccounts(database).list(None) == []
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
