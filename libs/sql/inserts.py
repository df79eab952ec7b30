"""Inserting beside what is there: the databases spell it alike, and SQLAlchemy has a statement for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def dialect_insert(connection: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert into `table` that can be told what to do on a conflict."""
    return insert_of(connection.dialect.name, table)


def insert_of(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return the same for a database by its name: to be built once, before there is a connection."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


async def insert_if_absent(connection: AsyncConnection, table: Table, row: Mapping[str, object]) -> bool:
    """Insert a row; False when one with its primary key is there already."""
    key = list(table.primary_key.columns)
    statement = dialect_insert(connection, table).values(**row)
    inserted = await connection.execute(statement.on_conflict_do_nothing(index_elements=key).returning(*key))
    return inserted.one_or_none() is not None


async def insert_absent(
    connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, object]]
) -> set[tuple[object, ...]]:
    """Insert rows in their order, by one statement; returns the primary keys of those that were not there already."""
    key = list(table.primary_key.columns)
    statement = dialect_insert(connection, table).values([dict(row) for row in rows])
    inserted = await connection.execute(statement.on_conflict_do_nothing(index_elements=key).returning(*key))
    return {tuple(row) for row in inserted}
