"""Bringing a database to the latest revision, without an ini file, from a checkout or an installed wheel."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, make_url

from services.scheduler.sql_engine import postgres_engine, prepare_sqlite, reaching

UPGRADE_TIMEOUT_S = 600.0


async def upgrade(url: str) -> None:
    """Bring the database of `url` to the latest revision; waits for another process that is doing so.

    One at a time in a process: Alembic keeps what it works on in module globals.
    Raises StoreUnavailable when the database is away.
    """
    async with reaching(UPGRADE_TIMEOUT_S):
        await asyncio.to_thread(_upgrade, url)  # Alembic reads files and runs revisions with blocking calls


def config(connection: Connection) -> Config:
    """Return Alembic's configuration for this history on an open connection, whose transaction is the caller's."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings


def _upgrade(url: str) -> None:
    if make_url(url).get_backend_name() == "sqlite":
        _upgrade_sqlite(url)
    else:
        asyncio.run(_upgrade_postgres(url))


def _upgrade_sqlite(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="sqlite"))
    prepare_sqlite(engine, writes=True)
    try:
        with engine.begin() as connection:
            command.upgrade(config(connection), "head")
    finally:
        engine.dispose()


async def _upgrade_postgres(url: str) -> None:
    engine = postgres_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(lambda synchronous: command.upgrade(config(synchronous), "head"))
    finally:
        await engine.dispose()
