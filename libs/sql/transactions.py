"""Transactions that are never broken off half way.

A caller may leave at any moment: a stream breaks, a deadline passes. Its transaction goes on by itself: on SQLite it
has a thread, where nothing can be cancelled, and its work may await nothing but the connection. PostgreSQL's driver can
be cancelled, and must be: a server that vanished would keep the connection for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from libs.sql.engines import Engines
from libs.sql.failures import DatabaseAway, reaching
from libs.sql.file_threads import FileThreads
from libs.sql.notices import notices
from libs.sql.work import Work

R = TypeVar("R")


class Transactions:
    """Runs work in a transaction each, and answers within the engines' time, with DatabaseAway at the worst."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._threads = FileThreads(engines.write, engines.read) if engines.is_sqlite else None
        self._running: set[asyncio.Task[Any]] = set()

    async def write(self, work: Work[R]) -> R:
        """Return what `work` returns once it is committed; anything it raises undoes all."""
        limit_s = self._engines.timeout_s
        return await self._finish(self._write(work, limit_s), limit_s)

    async def read(self, work: Work[R], timeout_s: float | None = None) -> R:
        """Return what `work` returns; it must not change anything, and on SQLite never waits for a writer."""
        limit_s = timeout_s or self._engines.timeout_s
        return await self._finish(self._read(work, limit_s), limit_s)

    def notices(self, channel: str) -> AsyncGenerator[None, None]:
        """Hear what other processes tell on a channel; see `libs.sql.notices`."""
        return notices(self._engines, channel)

    async def close(self) -> None:
        """Let what runs finish and give every connection back."""
        if self._running:
            await asyncio.wait(self._running)
        await (self._threads or self._engines).close()

    def _write(self, work: Work[R], limit_s: float) -> Coroutine[Any, Any, R]:
        return self._threads.write(work, limit_s) if self._threads else self._write_to_server(work, limit_s)

    def _read(self, work: Work[R], limit_s: float) -> Coroutine[Any, Any, R]:
        return self._threads.read(work, limit_s) if self._threads else self._read_from_server(work, limit_s)

    async def _write_to_server(self, work: Work[R], limit_s: float) -> R:
        async with reaching(limit_s), self._engines.write.begin() as connection:
            return await work(connection)

    async def _read_from_server(self, work: Work[R], limit_s: float) -> R:
        async with reaching(limit_s), self._engines.read.connect() as connection:
            return await work(connection)

    async def _finish(self, transaction: Coroutine[Any, Any, R], limit_s: float) -> R:
        task = asyncio.create_task(transaction)
        self._running.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait([task], timeout=limit_s)
        if not done:
            raise DatabaseAway(f"the database did not answer within {limit_s:g} s")
        return task.result()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, for a caller that has left
