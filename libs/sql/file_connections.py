"""SQLAlchemy's asynchronous faces over SQLite's own driver: nothing that is awaited here waits, it is done at once.

They are for the threads of `libs.sql.file_threads`; on an event loop they hold it up as long as the disk takes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, Executable
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


class FileConnection(AsyncConnection):
    """A connection whose statements run where they are asked for."""

    __slots__ = ()

    async def execute(self, statement: Executable, parameters: Any = None, *, execution_options: Any = None) -> Any:
        """Run a statement; returns its result."""
        return self._synchronous().execute(statement, parameters, execution_options=execution_options)

    async def exec_driver_sql(self, statement: str, parameters: Any = None, execution_options: Any = None) -> Any:
        """Run a string as the driver takes it; returns its result."""
        return self._synchronous().exec_driver_sql(statement, parameters, execution_options)

    def _synchronous(self) -> Connection:
        assert self.sync_connection is not None, "the connection is not open"
        return self.sync_connection


class FileEngine(AsyncEngine):
    """An engine of such connections."""

    __slots__ = ()

    def __init__(self, engine: Engine) -> None:
        engine.dialect.is_async = True  # what AsyncEngine asks for; nothing in here waits for what is not there
        super().__init__(engine)

    def connect(self) -> FileConnection:
        """Return a connection, not open yet."""
        return FileConnection(self)
