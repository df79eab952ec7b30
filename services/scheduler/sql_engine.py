"""Connections to SQLite or PostgreSQL that keep their word, and one meaning for every way a database can be away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import sqlalchemy.exc
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.scheduler.store import StoreUnavailable

POSTGRES_TIMEOUT_S = 1.0
SQLITE_TIMEOUT_S = 5.0  # nobody can be away: only the disk or another process's write can be slow
_POSTGRES_CONNECTIONS = 10
_SQLITE_READERS = 4
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", "foreign_keys=ON")
_AWAY_CLASSES = ("08", "53", "57")  # SQLSTATE classes of a server that is away, full or going down
_CONTENDED_CLASS = "40"
_UNREACHABLE = (OSError, sqlalchemy.exc.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Contended(StoreUnavailable):
    """Another process changed the same rows at this moment; the same transaction may succeed at once."""


@dataclass(frozen=True, slots=True)
class Engines:
    """`write` begins transactions that may change things, `read` ones that may not; on PostgreSQL they are one."""

    write: AsyncEngine
    read: AsyncEngine

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.write.dialect.name

    @property
    def timeout_s(self) -> float:
        """How long one call may take before the database counts as away."""
        return SQLITE_TIMEOUT_S if self.dialect == "sqlite" else POSTGRES_TIMEOUT_S

    async def close(self) -> None:
        """Give every connection back."""
        await self.write.dispose()
        await self.read.dispose()


def open_engines(url: str) -> Engines:
    """Return engines for `sqlite+aiosqlite:///FILE` or `postgresql+asyncpg://…`; connects on first use."""
    if make_url(url).get_backend_name() == "sqlite":
        return Engines(sqlite_engine(url, writes=True), sqlite_engine(url, writes=False))
    engine = postgres_engine(url)
    return Engines(engine, engine)


def sqlite_engine(url: str, *, writes: bool) -> AsyncEngine:
    """Return an engine on a file. Writers queue up in here for one connection, not at the file's lock."""
    size = 1 if writes else _SQLITE_READERS
    engine = create_async_engine(url, pool_size=size, max_overflow=0, hide_parameters=True)
    prepare_sqlite(engine.sync_engine, writes=writes)
    return engine


def prepare_sqlite(engine: Engine, *, writes: bool) -> None:
    """Let connections of `engine` write through to the disk, and its transactions begin where they say so."""
    pragmas = _PRAGMAS if writes else (*_PRAGMAS, "query_only=ON")
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    def prepare(connection: Any, _record: Any) -> None:
        # The driver would begin only at the first change, leaving the reads before it outside the transaction.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute("PRAGMA " + pragma)
        cursor.close()

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", start)


def postgres_engine(url: str) -> AsyncEngine:
    """Return an engine that checks a connection before it hands it out, so that a restarted server is found."""
    server_settings = {
        "application_name": "darkroom-scheduler",
        "synchronous_commit": "on",
        "idle_in_transaction_session_timeout": "10s",  # a process that vanished gives its locks back
    }
    return create_async_engine(
        url,
        pool_size=_POSTGRES_CONNECTIONS,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,  # errors end up in logs, and parameters hold prompts
        connect_args={
            "timeout": POSTGRES_TIMEOUT_S,
            "server_settings": server_settings,
        },
    )


@asynccontextmanager
async def reaching(timeout_s: float | None) -> AsyncIterator[None]:
    """Cancel what is done with the database after `timeout_s`, if there is a limit, and raise StoreUnavailable for every way of it being away."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except _UNREACHABLE as error:
        # asyncpg's own errors come unwrapped only from connecting: starting up, shutting down, not let in.
        raise StoreUnavailable(f"the database does not answer: {type(error).__name__}") from error
    except sqlalchemy.exc.DBAPIError as error:
        if _sqlstate_class(error.orig) == _CONTENDED_CLASS:
            raise Contended("another process changed the same rows") from error
        if error.connection_invalidated or _away(error.orig):
            raise StoreUnavailable(f"the database is away: {type(error.orig).__name__}") from error
        raise


def _away(error: BaseException | None) -> bool:
    """Whether the driver's error says that the database cannot work now, not that the statement is wrong."""
    if isinstance(error, sqlite3.OperationalError):  # locked, full, not readable, not a file any more
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR
    return _sqlstate_class(error) in _AWAY_CLASSES


def _sqlstate_class(error: BaseException | None) -> str:
    return str(getattr(error, "sqlstate", None) or "")[:2]
