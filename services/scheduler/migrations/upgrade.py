"""The history of the scheduler's tables, and running what is missing of it."""

from __future__ import annotations

from pathlib import Path

from libs.sql import migrations
from libs.sql.migrations import History
from services.scheduler.storage.sql_transactions import as_the_store_says

HISTORY = History(Path(__file__).parent, lock_key=0x6461726B_0001)


async def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database of `url` to a revision, the latest by default. Raises StoreUnavailable when it is away."""
    with as_the_store_says():
        await migrations.upgrade(url, HISTORY, revision)
