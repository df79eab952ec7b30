"""Brings the database to the schema of this version."""

from __future__ import annotations

from pathlib import Path

from libs.sql import addresses, migrations
from libs.sql.failures import reaching
from libs.sql.migrations import History
from services.ratelimiter.sql_database import as_unavailable

HISTORY = History(Path(__file__).with_name("migrations"), lock_key=0x6C696D69746572)  # "limiter"


async def upgrade(url: str, revision: str = "head") -> None:
    """Run what is missing of the history up to `revision`. Raises Unavailable when the database cannot be reached."""
    with as_unavailable():
        if addresses.is_sqlite(url):
            async with reaching(None):
                addresses.folder_of(url).mkdir(parents=True, exist_ok=True)
        await migrations.upgrade(url, HISTORY, revision)
