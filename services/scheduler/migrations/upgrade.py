"""Bringing a database to the latest revision, without an ini file, from a checkout or an installed wheel."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from services.scheduler.sql_engine import open_engines, reaching

UPGRADE_TIMEOUT_S = 600.0


async def upgrade(url: str) -> None:
    """Bring the database of `url` to the latest revision; waits for another process that is doing so.

    Raises StoreUnavailable when the database is away.
    """
    # Alembic reads files and runs revisions with blocking calls, so it has a thread and a loop of its own.
    await asyncio.to_thread(asyncio.run, _upgrade(url))


def config(connection: Connection) -> Config:
    """Return Alembic's configuration for this history on an open connection, whose transaction is the caller's."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings


async def _upgrade(url: str) -> None:
    engines = open_engines(url)
    try:
        async with reaching(UPGRADE_TIMEOUT_S), engines.write.begin() as connection:
            await connection.run_sync(lambda synchronous: command.upgrade(config(synchronous), "head"))
    finally:
        await engines.close()
