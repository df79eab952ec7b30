"""Hearing from other processes through the database, where it can pass something on (PostgreSQL: LISTEN, NOTIFY).

A notice only says that there is something to look at. It may be lost with a connection, so who depends on it looks from
time to time without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.sql.engines import Engines
from libs.sql.failures import DatabaseAway, reaching


async def notify(connection: AsyncConnection, channel: str) -> None:
    """Tell who listens on a channel once this transaction is committed; nobody where nobody can listen."""
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_notify(channel, "")))


async def notices(engines: Engines, channel: str) -> AsyncGenerator[None, None]:
    """Yield once it listens, then when something was told; what is told while the caller is busy counts once.

    Ends at once where nobody can listen. Raises DatabaseAway when it cannot listen, or not any more. It keeps one of
    the engine's connections.
    """
    if engines.is_sqlite:
        return
    told = asyncio.Event()
    async with reaching(engines.timeout_s):
        connection = await engines.read.connect()
    try:
        async with reaching(engines.timeout_s):
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            driver.add_termination_listener(lambda *_: told.set())
            await driver.add_listener(channel, lambda *_: told.set())
        while not driver.is_closed():
            yield
            await told.wait()
            told.clear()
        raise DatabaseAway("the connection that listens was lost")
    finally:
        await connection.invalidate()  # it must not go back to the pool listening
        await connection.close()
