"""All tables of a PostgreSQL database as files, as of one moment, and back into the same tables where they are empty.

Rows travel as PostgreSQL itself writes them (COPY, binary): exact, and for the same schema only. `tables.json` says
which columns, where sequences stood, and of which revisions the schema is.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.exc import SQLAlchemyError

from libs.sql.copies import CopyFailed
from libs.sql.engines import postgres_engine

TABLES = "tables.json"
_CONNECT_S = 10.0
_NOT_EMPTY = frozenset({"leader"})  # holds one row from the first revision on

_COLUMNS = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
GROUP BY c.relname ORDER BY c.relname
"""
_SEQUENCES = "SELECT sequencename::text, last_value FROM pg_sequences WHERE schemaname = current_schema()"
_REFERENCES = """
SELECT r.relname, t.relname FROM pg_constraint k
JOIN pg_class r ON r.oid = k.conrelid JOIN pg_class t ON t.oid = k.confrelid
WHERE k.contype = 'f' AND k.conrelid <> k.confrelid AND r.relnamespace = current_schema()::regnamespace
"""


async def export(url: str, folder: Path) -> dict[str, str]:
    """Write every table of the current schema into `folder`; return the revisions. Raises CopyFailed."""
    async with _connected(url) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        columns = await _columns(connection)
        for table, names in columns.items():
            file = folder / f"{table}.copy"
            file.touch(mode=0o600)
            await connection.copy_from_table(table, columns=names, output=str(file), format="binary")
        revisions = await _revisions(connection, columns)
        document = {
            "columns": columns,
            "sequences": {name: value for name, value in await connection.fetch(_SEQUENCES) if value is not None},
            "revisions": revisions,
        }
    (folder / TABLES).touch(mode=0o600)
    (folder / TABLES).write_text(json.dumps(document, indent=1) + "\n")
    return revisions


async def refuse_unless_empty(url: str) -> None:
    """Raise CopyFailed when a table of the database holds rows."""
    async with _connected(url) as connection:
        columns = await _columns(connection)
        for table in sorted(set(columns) - _NOT_EMPTY - set(_version_tables(columns))):
            if await connection.fetchval(f"SELECT EXISTS (SELECT 1 FROM {_quoted(table)})"):  # noqa: S608
                raise CopyFailed(f"the database is not empty: {table} holds rows; name another one")


async def load(url: str, folder: Path) -> None:
    """Fill the tables, which must be of the same schema, in one transaction. Raises CopyFailed."""
    document = json.loads((folder / TABLES).read_text())
    async with _connected(url) as connection, connection.transaction():
        columns = await _columns(connection)
        if await _revisions(connection, columns) != document["revisions"] or columns != document["columns"]:
            raise CopyFailed("the tables of the database are not those of the backup")
        filled = [table for table in await _in_order(connection, columns) if table not in _version_tables(columns)]
        await connection.execute("TRUNCATE " + ", ".join(map(_quoted, filled)))
        for table in filled:
            source = str(folder / f"{table}.copy")
            await connection.copy_to_table(table, columns=columns[table], source=source, format="binary")
        for name, value in document["sequences"].items():
            await connection.execute("SELECT setval($1::text::regclass, $2)", _quoted(name), value)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    """Give asyncpg's own connection, which can copy."""
    engine = postgres_engine(url, _CONNECT_S, "darkroom backup")
    try:
        async with engine.connect() as connection:
            yield (await connection.get_raw_connection()).driver_connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError) as error:
        raise CopyFailed(f"the database cannot be copied: {error}") from error
    finally:
        await engine.dispose()


async def _columns(connection: Any) -> dict[str, list[str]]:
    return {table: list(names) for table, names in await connection.fetch(_COLUMNS)}


async def _revisions(connection: Any, columns: dict[str, list[str]]) -> dict[str, str]:
    return {
        table: str(await connection.fetchval(f"SELECT version_num FROM {_quoted(table)}"))  # noqa: S608
        for table in _version_tables(columns)
    }


async def _in_order(connection: Any, columns: dict[str, list[str]]) -> list[str]:
    """Sort tables so that what rows refer to comes before them."""
    sorter = TopologicalSorter({table: [] for table in columns})
    for table, referred in await connection.fetch(_REFERENCES):
        sorter.add(table, referred)
    return list(sorter.static_order())


def _version_tables(columns: dict[str, list[str]]) -> list[str]:
    return [table for table, names in columns.items() if names == ["version_num"]]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
