"""The service's own database. Whatever cannot be reached in time is Unavailable, so that the caller is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Row, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.errors import Unavailable
from libs.sql.engines import open_engines
from libs.sql.failures import DatabaseAway
from libs.sql.transactions import Transactions
from libs.sql.work import Work

_DEADLINE_S = 0.8  # below libs.rpc.deadlines.LIMITER_S: the caller is told, not left waiting
LONG_S = 300.0  # for what adds up days or reads all of one: nobody waits at the door for it

R = TypeVar("R")


@contextmanager
def as_unavailable() -> Iterator[None]:
    """Raise Unavailable for a database that is away."""
    try:
        yield
    except DatabaseAway as error:
        raise _unavailable() from error


class Database:
    """Short transactions with a deadline, never broken off half way."""

    def __init__(self, url: str, deadline_s: float = _DEADLINE_S) -> None:
        engines = open_engines(url, timeout_s=deadline_s, application="darkroom-ratelimiter")
        self._transactions = Transactions(engines)

    async def write(self, work: Work[R]) -> R:
        """Return what `work` returns once it is committed; anything it raises undoes all."""
        with as_unavailable():
            return await self._transactions.write(work)

    async def read(self, work: Work[R], within_s: float | None = None) -> R:
        """Return what `work` returns; it changes nothing, never waits for a writer, and may take `within_s`."""
        with as_unavailable():
            return await self._transactions.read(work, within_s)

    async def rows(self, asked: Select[Any], within_s: float | None = None) -> Sequence[Row[Any]]:
        """Return what a query finds, in a time of its own for one that reads much."""

        async def read(connection: AsyncConnection) -> Sequence[Row[Any]]:
            found: Sequence[Row[Any]] = (await connection.execute(asked)).all()
            return found

        return await self.read(read, within_s)

    async def close(self) -> None:
        """Let what runs finish and close every connection."""
        await self._transactions.close()


def _unavailable() -> Unavailable:
    told = "The rate limiter's database does not answer. Nothing was charged; the same request may succeed in a moment."
    return Unavailable(told, reason="LIMITER_DEGRADED", metadata={"part": "database"}, retry_after_s=1.0)
