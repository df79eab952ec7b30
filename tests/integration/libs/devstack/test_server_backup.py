"""A backup of databases on a PostgreSQL server, and one on another database made of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from libs.devstack.backup import Places, back_up, restore
from libs.devstack.manifest import BackupProblem
from libs.devstack.postgres import PostgresServer
from libs.sql import exports
from services.ratelimiter import migrate
from services.scheduler.migrations.upgrade import upgrade
from tests.databases import new_database

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[PostgresServer]:
    async with PostgresServer() as running:
        yield running


async def run_sql(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements in one transaction; return the rows of the last."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        for statement in statements:
            result = await connection.execute(text(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    await engine.dispose()
    return rows


@pytest_asyncio.fixture(loop_scope="module")
async def url(server: PostgresServer) -> str:
    """Address of a database with the tables of both services, and rows that refer to each other."""
    made = await new_database(server)
    await migrate.upgrade(made)
    await upgrade(made)
    await run_sql(
        made,
        "CREATE TABLE a_child (id BIGSERIAL PRIMARY KEY, parent BIGINT NOT NULL, words TEXT, raw BYTEA)",
        "CREATE TABLE z_parent (id BIGINT PRIMARY KEY)",
        "ALTER TABLE a_child ADD FOREIGN KEY (parent) REFERENCES z_parent",
        "INSERT INTO z_parent VALUES (7)",
        "INSERT INTO a_child (parent, words, raw) SELECT 7, 'größer ' || n, decode('00ff', 'hex') FROM generate_series(1, 500) n",
        "UPDATE leader SET epoch = 41",
    )
    return made


@pytest.fixture
def places(tmp_path: Path, url: str) -> Places:
    data = tmp_path / "data"
    (data / "secrets").mkdir(parents=True)
    (data / "secrets" / "mesh-token").write_text("m" * 20)
    return Places(data, data / "secrets", data / "tiers.toml", "", url)


async def like(server: PostgresServer) -> str:
    """Return a database with the two tables that no service makes."""
    made = await new_database(server)
    await run_sql(
        made,
        "CREATE TABLE a_child (id BIGSERIAL PRIMARY KEY, parent BIGINT NOT NULL, words TEXT, raw BYTEA)",
        "CREATE TABLE z_parent (id BIGINT PRIMARY KEY)",
        "ALTER TABLE a_child ADD FOREIGN KEY (parent) REFERENCES z_parent",
    )
    return made


async def test_every_row_comes_back_on_another_database(server: PostgresServer, places: Places, tmp_path: Path) -> None:
    made = await asyncio.to_thread(back_up, places, tmp_path / "backup", NOW)
    assert set(made.revisions) == {"scheduler_version", "ratelimiter_version"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "backup").rglob("*.copy")} == {0o600}
    other = await like(server)
    await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", other)
    for query in ("SELECT * FROM a_child ORDER BY id", "SELECT * FROM leader", "SELECT * FROM scheduler_version"):
        assert await run_sql(other, query) == await run_sql(places.database_url, query) != []
    [(following,)] = await run_sql(other, "INSERT INTO a_child (parent) VALUES (7) RETURNING id")
    assert following == 501
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["secrets"]


async def test_it_is_of_one_moment(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that comes while the tables are written stands in none of them."""
    columns = exports._columns

    async def and_then_more(connection):
        found = await columns(connection)
        await run_sql(places.database_url, "INSERT INTO z_parent VALUES (8)", "INSERT INTO a_child (parent) VALUES (8)")
        return found

    monkeypatch.setattr(exports, "_columns", and_then_more)
    await asyncio.to_thread(back_up, places, tmp_path / "backup", NOW)
    monkeypatch.undo()
    await run_sql(places.database_url, "TRUNCATE a_child, z_parent")
    await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", places.database_url)
    assert await run_sql(places.database_url, "SELECT id FROM z_parent") == [(7,)]
    assert await run_sql(places.database_url, "SELECT count(*) FROM a_child") == [(500,)]


async def test_a_database_with_rows_is_left_as_it_is(places: Places, tmp_path: Path) -> None:
    await asyncio.to_thread(back_up, places, tmp_path / "backup", NOW)
    with pytest.raises(BackupProblem, match="not empty: a_child holds rows"):
        await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", places.database_url)
    assert await run_sql(places.database_url, "SELECT count(*) FROM a_child") == [(500,)]
    assert not (tmp_path / "new").exists()


async def test_what_fails_in_the_middle_leaves_no_row_and_can_be_tried_again(
    server: PostgresServer, places: Places, tmp_path: Path
) -> None:
    await asyncio.to_thread(back_up, places, tmp_path / "backup", NOW)
    other = await like(server)
    await run_sql(other, "ALTER TABLE a_child ADD CHECK (id < 400)")
    with pytest.raises(BackupProblem, match="cannot be copied"):
        await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", other)
    assert await run_sql(other, "SELECT * FROM z_parent") == []
    assert not (tmp_path / "new").exists()
    await run_sql(other, "ALTER TABLE a_child DROP CONSTRAINT a_child_id_check")
    await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", other)
    assert await run_sql(other, "SELECT count(*) FROM a_child") == [(500,)]


async def test_a_damaged_file_reaches_no_database(server: PostgresServer, places: Places, tmp_path: Path) -> None:
    await asyncio.to_thread(back_up, places, tmp_path / "backup", NOW)
    other, file = await new_database(server), tmp_path / "backup" / "postgresql" / "a_child.copy"
    shutil.copy(file, tmp_path / "whole")
    file.write_bytes(file.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(BackupProblem, match=r"damaged: postgresql/a_child\.copy"):
        await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", other)
    assert await run_sql(other, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
    shutil.copy(tmp_path / "whole", file)
    with pytest.raises(BackupProblem, match="not those of the backup"):  # it lacks the tables of nobody
        await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", other)


async def test_it_asks_for_a_database(places: Places, tmp_path: Path) -> None:
    await asyncio.to_thread(back_up, places, tmp_path / "backup", NOW)
    with pytest.raises(BackupProblem, match="set DARKROOM_DATABASE_URL to an empty database"):
        await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new")
