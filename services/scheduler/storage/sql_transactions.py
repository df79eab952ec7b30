"""Transactions of the store: whatever the database does, the store says StoreUnavailable."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import TypeVar

from libs.sql import failures, transactions
from libs.sql.engines import Engines
from libs.sql.work import Work
from services.scheduler.storage.store import Contended, StoreUnavailable

R = TypeVar("R")

_TRIES = 3  # each is lost only to another process that changes the same rows


@contextmanager
def as_the_store_says() -> Iterator[None]:
    """Raise StoreUnavailable for a database that is away."""
    try:
        yield
    except failures.Contended as error:
        raise Contended(str(error)) from error
    except failures.DatabaseAway as error:
        raise StoreUnavailable(str(error)) from error


class Transactions:
    """`libs.sql.transactions`, in the store's words."""

    def __init__(self, engines: Engines) -> None:
        self._transactions = transactions.Transactions(engines)

    async def write(self, work: Work[R]) -> R:
        """Return what `work` returns once it is committed; anything it raises undoes all.

        It is done again where another process changes the same rows, and Contended when that is so each time.
        """
        for _ in range(_TRIES - 1):
            with suppress(Contended):
                return await self._write(work)
        return await self._write(work)

    async def read(self, work: Work[R], timeout_s: float | None = None) -> R:
        """Return what `work` returns; it must not change anything."""
        with as_the_store_says():
            return await self._transactions.read(work, timeout_s)

    async def notices(self, channel: str) -> AsyncGenerator[None, None]:
        """Yield once it listens, then when another process told something; ends at once where nobody can listen."""
        with as_the_store_says():
            async with aclosing(self._transactions.notices(channel)) as told:
                async for _ in told:
                    yield

    async def close(self) -> None:
        """Let what runs finish and give every connection back."""
        await self._transactions.close()

    async def _write(self, work: Work[R]) -> R:
        with as_the_store_says():
            return await self._transactions.write(work)
