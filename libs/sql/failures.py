"""One meaning for every way in which a database can be away."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg  # type: ignore[import-untyped]
import sqlalchemy.exc

_AWAY_CLASSES = ("08", "53", "57")  # SQLSTATE classes of a server that is away, full, starting or going down
_CONTENDED_CLASS = "40"
_LOCK_NOT_AVAILABLE = "55P03"  # after `lock_timeout`
_UNREACHABLE = (OSError, sqlalchemy.exc.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class DatabaseAway(Exception):
    """The database cannot work now; whether a change that was asked for is made is not known."""


class Contended(DatabaseAway):
    """Another process changes the same rows at this moment; the same transaction may succeed at once."""


@asynccontextmanager
async def reaching(timeout_s: float | None) -> AsyncIterator[None]:
    """Cancel what is done with the database after `timeout_s`, if given; raise DatabaseAway however it is away."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except _UNREACHABLE as error:
        # asyncpg's own errors come unwrapped only from connecting: starting up, shutting down, not let in.
        raise DatabaseAway(f"the database does not answer: {type(error).__name__}") from error
    except sqlalchemy.exc.DBAPIError as error:
        if _contended(error.orig):
            raise Contended("another process changed the same rows") from error
        if error.connection_invalidated or _away(error.orig):
            raise DatabaseAway(f"the database is away: {type(error.orig).__name__}") from error
        raise


def _away(error: BaseException | None) -> bool:
    """Whether the driver's error says that the database cannot work now, not that the statement is wrong."""
    if isinstance(error, sqlite3.OperationalError):  # locked, full, not readable, not a file any more
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR
    return _sqlstate(error)[:2] in _AWAY_CLASSES


def _contended(error: BaseException | None) -> bool:
    return _sqlstate(error) == _LOCK_NOT_AVAILABLE or _sqlstate(error)[:2] == _CONTENDED_CLASS


def _sqlstate(error: BaseException | None) -> str:
    return str(getattr(error, "sqlstate", None) or "")
