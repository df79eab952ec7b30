"""Emptying a migrated database, which is much faster than making one."""

from __future__ import annotations

from sqlalchemy import text

from libs.sql.engines import open_engines
from services.scheduler.storage.sql_schema import metadata


async def empty(url: str) -> str:
    """Leave a migrated database as new; return its URL."""
    engines = open_engines(url, timeout_s=30.0)
    async with engines.write.begin() as connection:
        tables = ", ".join(name for name in metadata.tables if name != "leader")
        await connection.execute(text(f"TRUNCATE {tables}"))
        await connection.execute(
            text("UPDATE leader SET epoch = 0, holder = '', cluster_id = '', revision = 0, address = ''")
        )
    await engines.close()
    return url
