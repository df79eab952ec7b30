"""The tenants themselves in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import TenantId
from libs.sql.inserts import dialect_insert
from services.ratelimiter import schema
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.tenants import Tenant


class SqlTenants:
    """Keeps the promises of `tenants.TenantBook`."""

    def __init__(self, database: Database) -> None:
        self._database, self._tenants = database, schema.build().tables["tenants"]

    async def find(self, tenant_id: TenantId) -> Tenant | None:
        """Return a tenant."""
        rows = await self._database.rows(select(self._tenants).where(self._tenants.c.id == tenant_id))
        return _tenant(rows[0]) if rows else None

    async def list(self, after: str, most: int) -> Sequence[Tenant]:
        """Return tenants by id, those behind `after`."""
        asked = select(self._tenants).where(self._tenants.c.id > after).order_by(self._tenants.c.id).limit(most)
        return [_tenant(row) for row in await self._database.rows(asked)]

    async def among(self, tenant_ids: Sequence[TenantId]) -> Sequence[Tenant]:
        """Return those of the named that there are."""
        asked = select(self._tenants).where(self._tenants.c.id.in_(tenant_ids))
        return [_tenant(row) for row in await self._database.rows(asked)]

    async def put(self, tenant: Tenant) -> None:
        """Make a tenant, or give one that is there another tier."""
        row = {"id": tenant.id, "tier": tenant.tier, "created_at": tenant.created_s}

        async def write(within: AsyncConnection) -> None:
            statement = dialect_insert(within, self._tenants).values(**row)
            await within.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"tier": tenant.tier}))

        await self._database.write(write)


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(TenantId(row.id), row.tier, row.created_at)
