"""The one statement that the two databases spell alike and SQLAlchemy does not: insert unless the key is there."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


async def insert_if_absent(connection: AsyncConnection, table: Table, row: Mapping[str, object]) -> bool:
    """Insert a row; False when one with its primary key is there already."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    key = list(table.primary_key.columns)
    statement = insert(table).values(**row).on_conflict_do_nothing(index_elements=key).returning(*key)
    return (await connection.execute(statement)).one_or_none() is not None
