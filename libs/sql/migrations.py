"""Bringing a database to the latest revision, without an ini file, from a checkout or an installed wheel.

A history is a folder with `env.py`, which calls `run`, and `versions`. Several may live in one database: each has
its own version table and its own lock.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, MetaData, text

from libs.sql.addresses import is_sqlite
from libs.sql.engines import blocking_sqlite_engine, postgres_engine
from libs.sql.failures import reaching

UPGRADE_TIMEOUT_S = 600.0
_FILE_LOCK_S = 60.0  # another process may be upgrading the file
_CONNECT_S = 5.0
_TURN = threading.Lock()  # Alembic keeps what it works on in module globals: one run at a time in a process


@dataclass(frozen=True, slots=True)
class History:
    """The revisions of a service's tables; `lock_key` lets one process at a time change them on PostgreSQL."""

    folder: Path
    lock_key: int


async def upgrade(url: str, history: History, revision: str = "head") -> None:
    """Bring the database of `url` to a revision, the latest by default; waits for another process that is doing so.

    Raises DatabaseAway when it cannot be reached.
    """
    async with reaching(UPGRADE_TIMEOUT_S):
        await asyncio.to_thread(
            _upgrade_in_turn, url, history, revision
        )  # Alembic reads files and runs revisions, blocking


def config(history: History, connection: Connection) -> Config:
    """Return Alembic's configuration for a history on an open connection, whose transaction is the caller's."""
    settings = Config()
    settings.set_main_option("script_location", str(history.folder).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings


def run(metadata: MetaData, *, version_table: str) -> None:
    """What a history's `env.py` does: run the revisions inside the transaction of the connection in `config`."""
    connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=version_table,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _upgrade_in_turn(url: str, history: History, revision: str) -> None:
    with _TURN:
        if is_sqlite(url):
            _upgrade_file(url, history, revision)
        else:
            asyncio.run(_upgrade_server(url, history, revision))


def _upgrade_file(url: str, history: History, revision: str) -> None:
    engine = blocking_sqlite_engine(url, _FILE_LOCK_S)
    try:
        with engine.begin() as connection:  # the transaction is the lock
            command.upgrade(config(history, connection), revision)
    finally:
        engine.dispose()


async def _upgrade_server(url: str, history: History, revision: str) -> None:
    engine = postgres_engine(url, _CONNECT_S)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": history.lock_key})
            await connection.run_sync(lambda synchronous: command.upgrade(config(history, synchronous), revision))
    finally:
        await engine.dispose()
