"""The service's own database: SQLite (a file) or PostgreSQL, by its address.

SQLite's driver begins a transaction only at the first write, which loses updates without an error; here every
transaction begins at once, writers with the write lock and readers without.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy import event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from libs.errors import Unavailable

SQLITE, POSTGRESQL = "sqlite+aiosqlite", "postgresql+asyncpg"
_DEADLINE_S = 0.8  # below libs.rpc.deadlines.LIMITER_S: the caller is told, not left waiting
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


def is_database_url(url: str) -> str | None:
    """Check the address of a database, for a setting; empty stands for the default."""
    fine = not url or url.startswith((f"{SQLITE}:///", f"{POSTGRESQL}://"))
    return None if fine else f"must begin with {SQLITE}:/// or {POSTGRESQL}://"


class Database:
    """Short transactions with a deadline. Whatever cannot be reached is Unavailable."""

    def __init__(self, url: str, deadline_s: float = _DEADLINE_S) -> None:
        self._writer = open_engine(url, begin="BEGIN IMMEDIATE", wait_s=deadline_s)
        is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self._reader = open_engine(url, begin="BEGIN", wait_s=deadline_s) if is_sqlite else self._writer
        self._deadline_s = deadline_s

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a transaction; committed at the end unless an error leaves it."""
        async with self._transaction(self._writer) as connection:
            yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a transaction that reads only; it never waits for a writer."""
        async with self._transaction(self._reader) as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._writer.dispose()
        await self._reader.dispose()

    @asynccontextmanager
    async def _transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(self._deadline_s), engine.begin() as connection:
                yield connection
        except (OSError, PoolTimeout, OperationalError, InterfaceError) as error:
            raise _unavailable() from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _unavailable() from error
            raise


def open_engine(url: str, *, begin: str, wait_s: float) -> AsyncEngine:
    """Return an engine; for SQLite `begin` is how a transaction begins, `wait_s` how long it waits for a writer."""
    engine = create_async_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", partial(_prepare_sqlite, wait_s))
        event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _prepare_sqlite(wait_s: float, connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    cursor = connection.cursor()
    for pragma in (*_PRAGMAS, f"busy_timeout={int(wait_s * 1000)}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _unavailable() -> Unavailable:
    told = "The rate limiter's database does not answer. Nothing was charged; the same request may succeed in a moment."
    return Unavailable(told, reason="LIMITER_DEGRADED", metadata={"part": "database"}, retry_after_s=1.0)
