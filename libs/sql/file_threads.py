"""Transactions on an SQLite file, each as a whole in one thread: one hop there and one back, however many statements.

A hop between threads costs more than most statements do, and a transaction has a dozen of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from libs.sql.failures import DatabaseAway, reaching
from libs.sql.file_connections import FileConnection
from libs.sql.work import Work, done_at_once

WRITERS = 1  # writers queue up in here for one connection, not at the file's lock
READERS = 4
R = TypeVar("R")


class FileThreads:
    """A thread for changes, which take turns in it, and some for reads, which never wait for a change.

    What does not get its turn within the time it is given is not begun.
    """

    def __init__(self, write: AsyncEngine, read: AsyncEngine) -> None:
        self._write, self._read = write, read
        self._writer = ThreadPoolExecutor(WRITERS, "sqlite-write")
        self._readers = ThreadPoolExecutor(READERS, "sqlite-read")
        self._closed = False

    def write(self, work: Work[R], limit_s: float) -> Coroutine[Any, Any, R]:
        """Return what `work` returns once it is committed. The time runs from the call."""
        begin = self._write.sync_engine.begin
        return self._run(self._writer, _transaction(self._write, begin, work, limit_s))

    def read(self, work: Work[R], limit_s: float) -> Coroutine[Any, Any, R]:
        """Return what `work` returns. The time runs from the call."""
        connect = self._read.sync_engine.connect
        return self._run(self._readers, _transaction(self._read, connect, work, limit_s))

    async def close(self) -> None:
        """Close the connections once nothing runs: with the last one SQLite tidies the file up, which takes time."""
        if self._closed:
            return
        self._closed = True
        for engine in (self._read, self._write):
            await asyncio.get_running_loop().run_in_executor(self._writer, engine.sync_engine.dispose)
        for threads in (self._readers, self._writer):
            threads.shutdown()

    async def _run(self, threads: Executor, transaction: Callable[[], R]) -> R:
        if self._closed:
            raise DatabaseAway("the file was closed")
        own = contextvars.copy_context()
        async with reaching(None):
            return await asyncio.get_running_loop().run_in_executor(threads, own.run, transaction)


def _transaction(
    engine: AsyncEngine, begin: Callable[[], AbstractContextManager[Connection]], work: Work[R], limit_s: float
) -> Callable[[], R]:
    until_s = time.monotonic() + limit_s

    def run() -> R:
        if time.monotonic() >= until_s:
            raise DatabaseAway(f"others kept the file busy for {limit_s:g} s")
        with begin() as connection:
            return done_at_once(work(FileConnection(engine, connection)))

    return run
