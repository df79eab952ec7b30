"""The PostgreSQL that store tests run on: a crash keeps what was committed, and strangers are refused."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from libs.devstack.postgres import PostgresServer


async def test_a_crash_keeps_what_was_committed() -> None:
    async with PostgresServer() as server:
        engine = create_async_engine(server.url, pool_pre_ping=True)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE kept (n int)"))
            await connection.execute(text("INSERT INTO kept VALUES (7)"))
        await server.stop_immediate()
        with pytest.raises(ConnectionRefusedError):
            await create_async_engine(server.url).connect()
        await server.start()
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT n FROM kept")) == 7
        await engine.dispose()
        stranger = create_async_engine(server.url.replace("darkroom:", "darkroom:wrong"))
        with pytest.raises(Exception, match="password"):
            await stranger.connect()
