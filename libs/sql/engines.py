"""Connections to SQLite or PostgreSQL that keep their word: what is committed is on the disk, reads see one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from libs.sql.addresses import is_sqlite
from libs.sql.file_connections import FileEngine
from libs.sql.file_threads import READERS, WRITERS

_POSTGRES_CONNECTIONS = 10
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
# Pages of indexes lie all over a large file: with SQLite's own 1,000 pages of log a full group of a few hundred rows is
# followed by moving each of them there, and with 2 MB of cache by reading them again.
_WRITER_PRAGMAS = ("wal_autocheckpoint=8192", "cache_size=-32768")


@dataclass(frozen=True, slots=True)
class Engines:
    """`write` begins transactions that may change things, `read` ones that may not; on PostgreSQL they are one.

    `timeout_s` is how long one call may take before the database counts as away.
    """

    write: AsyncEngine
    read: AsyncEngine
    timeout_s: float

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file."""
        return self.write.dialect.name == "sqlite"

    async def close(self) -> None:
        """Give every connection back."""
        await self.write.dispose()
        await self.read.dispose()


def open_engines(
    url: str, *, timeout_s: float, application: str = "darkroom", lock_timeout_s: float | None = None
) -> Engines:
    """Return engines for `sqlite+aiosqlite:///FILE` or `postgresql+asyncpg://…`; connects on first use.

    `lock_timeout_s`: how long a statement waits for rows of another transaction on PostgreSQL; then it is Contended.
    """
    if is_sqlite(url):
        return Engines(
            _sqlite_engine(url, timeout_s, writes=True), _sqlite_engine(url, timeout_s, writes=False), timeout_s
        )
    engine = postgres_engine(url, timeout_s, application, lock_timeout_s)
    return Engines(engine, engine, timeout_s)


def blocking_sqlite_engine(url: str, timeout_s: float) -> Engine:
    """Return an engine for changes without an event loop, which waits for the file's lock up to `timeout_s`."""
    return _prepared(create_engine(_drivers_url(url), hide_parameters=True), timeout_s, writes=True)


def _sqlite_engine(url: str, timeout_s: float, *, writes: bool) -> FileEngine:
    engine = create_engine(
        _drivers_url(url),
        pool_size=WRITERS if writes else READERS,
        max_overflow=0,
        pool_timeout=timeout_s,
        hide_parameters=True,  # errors end up in logs, and parameters hold prompts
    )
    return FileEngine(_prepared(engine, timeout_s, writes=writes))


def _drivers_url(url: str) -> URL:
    return make_url(url).set(drivername="sqlite")


def postgres_engine(
    url: str, timeout_s: float, application: str = "darkroom", lock_timeout_s: float | None = None
) -> AsyncEngine:
    """Return an engine on a server. `timeout_s`: how long to wait for a connection."""
    server_settings = {
        "lock_timeout": f"{int((lock_timeout_s or 0.0) * 1000)}ms",  # 0 is for ever
        "application_name": application,
        "synchronous_commit": "on",
        "idle_in_transaction_session_timeout": "10s",  # a process that vanished gives its locks back
    }
    return create_async_engine(
        url,
        pool_size=_POSTGRES_CONNECTIONS,
        max_overflow=0,
        pool_timeout=timeout_s,
        pool_pre_ping=True,  # a restarted server is found before a connection is handed out
        hide_parameters=True,  # errors end up in logs, and parameters hold prompts
        connect_args={"timeout": timeout_s, "server_settings": server_settings},
    )


def _prepared(engine: Engine, timeout_s: float, *, writes: bool) -> Engine:
    """Let connections write through to the disk, and transactions begin where they say so."""
    own = ("query_only=OFF", *_WRITER_PRAGMAS) if writes else ("query_only=ON",)
    pragmas = (f"busy_timeout={int(timeout_s * 1000)}", *_PRAGMAS, *own)
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
    return engine
