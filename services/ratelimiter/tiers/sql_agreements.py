"""Agreements in SQL; one that was taken back stays as an empty row, so that every replica hears of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import KeyId, TenantId
from libs.sql.inserts import dialect_insert
from services.ratelimiter import schema
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tiers.tariffs import Agreement


class SqlAgreements:
    """Keeps the promises of `agreed.Agreements`."""

    def __init__(self, database: Database) -> None:
        self._database, self._agreements = database, schema.build().tables["agreements"]

    async def since(self, changed_s: float) -> Sequence[Agreement]:
        """Return what was changed from a moment on."""
        asked = select(self._agreements).where(self._agreements.c.changed_at >= changed_s)
        return [_agreement(row) for row in await self._database.rows(asked)]

    async def of(self, tenant_ids: Sequence[TenantId]) -> Sequence[Agreement]:
        """Return what is agreed with tenants, each before its keys."""
        places = (self._agreements.c.tenant_id, self._agreements.c.key_id)
        asked = select(self._agreements).where(self._agreements.c.tenant_id.in_(tenant_ids)).order_by(*places)
        return [_agreement(row) for row in await self._database.rows(asked)]

    async def put(self, agreement: Agreement) -> None:
        """Have it hold from now on."""
        place = {"tenant_id": agreement.tenant_id, "key_id": agreement.key_id}
        said = {
            "fields": json.dumps(dict(agreement.fields), sort_keys=True),
            "verified": agreement.verified,
            "changed_at": agreement.changed_s,
        }

        async def write(within: AsyncConnection) -> None:
            statement = dialect_insert(within, self._agreements).values(**place, **said)
            await within.execute(statement.on_conflict_do_update(index_elements=list(place), set_=said))

        await self._database.write(write)


def _agreement(row: Row[Any]) -> Agreement:
    fields = json.loads(row.fields)
    return Agreement(TenantId(row.tenant_id), KeyId(row.key_id), fields, bool(row.verified), row.changed_at)
