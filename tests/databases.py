"""Databases of a test's own on a PostgreSQL server that it shares."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from libs.devstack.postgres import PostgresServer


async def new_database(server: PostgresServer) -> str:
    """Make an empty database; return its address."""
    name = f"test_{uuid4().hex}"
    engine = create_async_engine(server.url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await engine.dispose()
    return make_url(server.url).set(database=name).render_as_string(hide_password=False)
