"""Brings the database to the schema of this version. Runs in a thread of its own: Alembic is not asynchronous."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text

from services.ratelimiter.database import open_engine, reaching

_FOLDER = Path(__file__).with_name("migrations")
_LOCK = 0x6C696D69746572  # "limiter": two replicas that start together migrate one after the other
_WAIT_S = 60.0


async def upgrade(url: str) -> None:
    """Run what is missing of the history. Raises Unavailable when the database cannot be reached."""
    async with reaching():
        await asyncio.to_thread(lambda: asyncio.run(_upgrade(url)))


async def _upgrade(url: str) -> None:
    database = make_url(url).database
    if url.startswith("sqlite") and database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = open_engine(url, begin="BEGIN IMMEDIATE", wait_s=_WAIT_S)
    try:
        async with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


def _run(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
