"""What of a table of deliveries a claimer gets. Claimers side by side skip the rows that others are claiming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Table, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.webhooks.shares import Claim, Shares

LOOK, LOOKS = 64, 16  # rows at a time for a claim, and how many times, should few tenants have most of what is due


async def any_due(connection: AsyncConnection, table: Table, claim: Claim) -> bool:
    """Return whether there is anything to claim: most claims find nothing, and none of those need write."""
    due = select(*table.primary_key).where(*_due(table, claim, Shares(claim)))
    return (await connection.execute(due.limit(1))).first() is not None


async def lease(connection: AsyncConnection, table: Table, claim: Claim) -> list[RowMapping]:
    """Lease rows of a table with `due_at`, `tries`, `tenant_id` and `host`; return them as they were before."""
    rows = await _pick(connection, table, claim)
    leased = {"tries": table.c.tries + 1, "due_at": claim.now + claim.lease_s}
    await connection.execute(update(table).where(*these(table, rows)).values(leased))
    return rows


async def _pick(connection: AsyncConnection, table: Table, claim: Claim) -> list[RowMapping]:
    """Return and lock rows for a claim. Whoever used up a share is left out of the next look, however much is due."""
    shares, picked, seen, key = Shares(claim), list[RowMapping](), set[tuple[Any, ...]](), table.primary_key.columns
    for _ in range(LOOKS):
        due = select(table).where(*_due(table, claim, shares)).order_by(table.c.due_at, *key)
        limit = LOOK + len(picked)
        rows = (await connection.execute(due.limit(limit).with_for_update(skip_locked=True))).mappings().all()
        new = [row for row in rows if _key(table, row) not in seen]
        picked += [row for row in new if shares.take(row["tenant_id"], row["host"])]
        seen = {_key(table, row) for row in picked}
        if shares.full or len(rows) < limit:
            break
    return picked


def these(table: Table, rows: Sequence[Mapping[Any, Any]]) -> tuple[ColumnElement[bool], ...]:
    """Return what holds of these rows; SQLite finds no index for pairs, so the first column is named by itself, too."""
    first, *_ = table.primary_key.columns
    whole = tuple_(*table.primary_key.columns).in_([_key(table, row) for row in rows])
    return first.in_({row[first.name] for row in rows}), whole


def _key(table: Table, row: Mapping[Any, Any]) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in table.primary_key.columns)


def _due(table: Table, claim: Claim, shares: Shares) -> list[ColumnElement[bool]]:
    due = [table.c.due_at <= claim.now]
    if tenants := sorted(shares.busy_tenants):
        due.append(table.c.tenant_id.not_in(tenants))
    if receivers := sorted(shares.busy_receivers):
        due.append(tuple_(table.c.tenant_id, table.c.host).not_in(receivers))
    return due
