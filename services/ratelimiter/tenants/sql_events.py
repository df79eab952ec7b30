"""Events of tenants in SQL; what is to be sent of one is committed with it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import TenantId
from libs.sql.inserts import insert_absent
from services.ratelimiter import schema
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.events import EventPlace, TenantEvent
from services.ratelimiter.webhooks.sql_deliveries import SqlEventDeliveries


class SqlTenantEvents:
    """Keeps the promises of `tenant_events.TenantEvents`."""

    def __init__(self, database: Database) -> None:
        self._database, self._events = database, schema.build().tables["tenant_events"]
        self._deliveries = SqlEventDeliveries(database)

    async def add(self, events: Sequence[TenantEvent]) -> int:
        """Keep events; returns how many of them were new."""
        ordered = sorted(events, key=lambda event: event.id)  # so that no two who keep the same wait for each other

        async def write(within: AsyncConnection) -> int:
            new = await insert_absent(within, self._events, [_row(event) for event in ordered])
            kept = {event.id: event for event in ordered if (event.id,) in new}
            await self._deliveries.queue(within, list(kept.values()))
            return len(kept)

        return await self._database.write(write) if ordered else 0

    async def latest(self, tenant_id: TenantId, most: int, before: EventPlace | None = None) -> Sequence[TenantEvent]:
        """Return events of a tenant, or of all, newest first; those `before` a place where it is given."""
        events = self._events
        asked = select(events).order_by(events.c.at.desc(), events.c.id.desc()).limit(most)
        if tenant_id:
            asked = asked.where(events.c.tenant_id == tenant_id)
        if before is not None:
            asked = asked.where(tuple_(events.c.at, events.c.id) < tuple_(*before))
        rows = await self._database.rows(asked)
        return [TenantEvent(row.id, TenantId(row.tenant_id), row.kind, row.message, row.at) for row in rows]

    async def forget(self, before_s: float) -> None:
        """Remove those before a moment."""
        gone = delete(self._events).where(self._events.c.at < before_s)

        async def write(within: AsyncConnection) -> None:
            await within.execute(gone)
            await self._deliveries.forget(within, before_s)

        await self._database.write(write)


def _row(event: TenantEvent) -> dict[str, object]:
    row = {"id": event.id, "tenant_id": event.tenant_id, "kind": event.kind, "message": event.message}
    return {**row, "at": event.at_s}
