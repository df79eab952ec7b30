"""Histories side by side in one database, from one process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import inspect

from libs.sql.engines import Engines
from libs.sql.migrations import History, upgrade

ENV = """
from sqlalchemy import MetaData
from libs.sql import migrations
migrations.run(MetaData(), version_table="{name}_version")
"""
REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True))
"""


def a_history(folder: Path, name: str, lock_key: int) -> History:
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV.format(name=name))
    (folder / "versions" / "0001.py").write_text(REVISION.format(name=name))
    return History(folder, lock_key)


async def test_two_histories_at_once_in_one_database_do_not_meet(engines: Engines, url: str, tmp_path: Path):
    histories = [a_history(tmp_path / f"100%{name}", name, key) for key, name in enumerate(("apples", "pears"))]
    await asyncio.gather(*(upgrade(url, history) for history in histories * 2))
    async with engines.write.connect() as connection:
        found = await connection.run_sync(lambda synchronous: inspect(synchronous).get_table_names())
    await engines.close()
    assert sorted(found) == ["apples", "apples_version", "pears", "pears_version"]
