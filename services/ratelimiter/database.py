"""The service's own database: SQLite (a file) or PostgreSQL, by its address.

SQLite's driver begins a transaction only at the first write, which loses updates without an error; here every
transaction begins at once, writers with the write lock and readers without.

A caller may leave at any moment: its deadline passes, its stream breaks. Its transaction goes on by itself, because
cancelling inside SQLite's driver can lose the connection together with the file's lock. PostgreSQL's driver can be
cancelled, and must be: a server that vanished would keep the connection for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Row, Select, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from libs.errors import Unavailable

SQLITE, POSTGRESQL = "sqlite+aiosqlite", "postgresql+asyncpg"
_DEADLINE_S = 0.8  # below libs.rpc.deadlines.LIMITER_S: the caller is told, not left waiting
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
_AWAY = (OSError, PoolTimeout, OperationalError, InterfaceError)
_AWAY_STATES = ("08", "53", "57")  # SQLSTATE classes of a PostgreSQL server that is away, full, starting or going down

R = TypeVar("R")
Work = Callable[[AsyncConnection], Awaitable[R]]


def is_database_url(url: str) -> str | None:
    """Check the address of a database, for a setting; empty stands for the default."""
    fine = not url or url.startswith((f"{SQLITE}:///", f"{POSTGRESQL}://"))
    return None if fine else f"must begin with {SQLITE}:/// or {POSTGRESQL}://"


class Database:
    """Short transactions with a deadline, never broken off half way. Whatever cannot be reached is Unavailable."""

    def __init__(self, url: str, deadline_s: float = _DEADLINE_S) -> None:
        self._writer = open_engine(url, begin="BEGIN IMMEDIATE", wait_s=deadline_s)
        is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self._reader = open_engine(url, begin="BEGIN", wait_s=deadline_s) if is_sqlite else self._writer
        self._deadline_s = deadline_s
        self._cancel_after_s = None if is_sqlite else deadline_s
        self._running: set[asyncio.Task[Any]] = set()

    async def write(self, work: Work[R]) -> R:
        """Return what `work` returns once it is committed; anything it raises undoes all."""
        return await self._finish(self._transaction(self._writer, work))

    async def read(self, work: Work[R]) -> R:
        """Return what `work` returns; it changes nothing and never waits for a writer."""
        return await self._finish(self._transaction(self._reader, work))

    async def rows(self, asked: Select[Any]) -> Sequence[Row[Any]]:
        """Return what a query finds."""

        async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
            found: Sequence[Row[Any]] = (await connection.execute(asked)).all()
            return found

        return await self.read(read)

    async def close(self) -> None:
        """Let what runs finish and close every connection."""
        if self._running:
            await asyncio.wait(self._running)
        await self._writer.dispose()
        await self._reader.dispose()

    async def _transaction(self, engine: AsyncEngine, work: Work[R]) -> R:
        async with reaching(), asyncio.timeout(self._cancel_after_s), engine.begin() as connection:
            return await work(connection)

    async def _finish(self, transaction: Coroutine[Any, Any, R]) -> R:
        task = asyncio.create_task(transaction)
        self._running.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait([task], timeout=self._deadline_s)
        if not done:
            raise _unavailable()
        return task.result()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, for a caller that has left


@asynccontextmanager
async def reaching() -> AsyncIterator[None]:
    """Raise Unavailable for every way of the database being away."""
    try:
        yield
    except _AWAY as error:
        raise _unavailable() from error
    except DBAPIError as error:
        if error.connection_invalidated or str(getattr(error.orig, "sqlstate", None) or "").startswith(_AWAY_STATES):
            raise _unavailable() from error
        raise


def open_engine(url: str, *, begin: str, wait_s: float) -> AsyncEngine:
    """Return an engine; for SQLite `begin` is how a transaction begins, `wait_s` how long it waits for a writer."""
    engine = create_async_engine(url, pool_pre_ping=True, pool_timeout=wait_s)
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
