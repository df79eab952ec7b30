"""Deliveries of events in SQL.

Rows are taken in the order endpoint, delivery; claimers take no endpoint and wait for nobody. So no two wait for each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import EndpointId, TenantId
from libs.sql import claims
from libs.webhooks import tries
from libs.webhooks.shares import Claim
from libs.webhooks.tries import Fate, Told
from services.ratelimiter import schema
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.events import TenantEvent
from services.ratelimiter.webhooks.deliveries import Delivery, Report, delivery_of
from services.ratelimiter.webhooks.endpoints import Endpoint
from services.ratelimiter.webhooks.sql_endpoints import endpoint_of


class SqlEventDeliveries:
    """Keeps the promises of `deliveries.EventDeliveries`; `queue` and `forget` are parts of what happens to events."""

    def __init__(self, database: Database) -> None:
        tables = schema.build().tables
        self._database, self._endpoints, self._table = database, tables["webhook_endpoints"], tables["event_deliveries"]

    async def claim(self, claim: Claim) -> Sequence[Delivery]:
        """Lease deliveries that are due."""
        if not await self._database.read(lambda within: claims.any_due(within, self._table, claim)):
            return []
        rows = await self._database.write(lambda within: claims.lease(within, self._table, claim))
        until = claim.now + claim.lease_s
        return [dataclasses.replace(_delivery(row), tries=row["tries"] + 1, due_at=until) for row in rows]

    async def report(self, report: Report) -> Fate | None:
        """Note what came of a try."""
        table = self._table
        this = (table.c.event_id == report.event_id, table.c.endpoint_id == report.endpoint_id)

        async def write(within: AsyncConnection) -> Fate | None:
            if report.told is Told.GONE:
                await self._take_endpoint(within, report.endpoint_id)
            row = (await within.execute(select(table).where(*this).with_for_update())).mappings().one_or_none()
            after = None if row is None else tries.reported(_delivery(row), report)
            if after is None:
                return None
            await within.execute(
                update(table).where(*this).values(dataclasses.asdict(after) | {"fate": after.fate.value})
            )
            if after.fate is Fate.GONE:
                await self._disable(within, report)
            return after.fate

        return await self._database.write(write)

    async def waiting(self, most: int) -> int:
        """Return how many are not over."""
        waiting = select(self._table.c.event_id).where(self._table.c.due_at.is_not(None)).limit(most).subquery()
        rows = await self._database.rows(select(func.count().label("deliveries")).select_from(waiting))
        return int(rows[0].deliveries)

    async def latest(self, endpoint_id: EndpointId, most: int) -> Sequence[Delivery]:
        """Return deliveries of an endpoint, newest event first."""
        table = self._table
        asked = select(table).where(table.c.endpoint_id == endpoint_id).limit(most)

        async def read(within: AsyncConnection) -> Sequence[Delivery]:
            rows = await within.execute(asked.order_by(table.c.time.desc(), table.c.event_id.desc()))
            return [_delivery(row) for row in rows.mappings()]

        return await self._database.read(read)

    async def queue(self, within: AsyncConnection, events: Sequence[TenantEvent]) -> None:
        """Write the deliveries of new events in their transaction; no endpoint goes meanwhile."""
        columns, tenants = self._endpoints.c, {event.tenant_id for event in events}
        asked = select(self._endpoints).where(columns.tenant_id.in_(tenants), columns.disabled_at.is_(None))
        found = await within.execute(asked.order_by(columns.id).with_for_update(read=True)) if events else ()
        endpoints: dict[TenantId, list[Endpoint]] = {tenant_id: [] for tenant_id in tenants}
        for endpoint in map(endpoint_of, found):
            endpoints[endpoint.tenant_id].append(endpoint)
        told = [(event, each) for event in events for each in endpoints[event.tenant_id] if each.wants(event.kind)]
        if told:
            await within.execute(insert(self._table), [_row(delivery_of(*each)) for each in told])

    async def forget(self, within: AsyncConnection, before_s: float) -> None:
        """Remove those of events before a moment."""
        await within.execute(delete(self._table).where(self._table.c.time < before_s))

    async def _take_endpoint(self, within: AsyncConnection, endpoint_id: EndpointId) -> None:
        endpoints = self._endpoints
        await within.execute(select(endpoints.c.id).where(endpoints.c.id == endpoint_id).with_for_update())

    async def _disable(self, within: AsyncConnection, report: Report) -> None:
        endpoints, table = self._endpoints, self._table
        it = endpoints.c.id == report.endpoint_id
        await within.execute(update(endpoints).where(it).values(disabled_at=report.now))
        waits = (table.c.endpoint_id == report.endpoint_id, table.c.due_at.is_not(None))
        await within.execute(update(table).where(*waits).values(due_at=None, fate=Fate.GONE.value))


def _row(delivery: Delivery) -> dict[str, Any]:
    return dataclasses.asdict(delivery) | {"fate": delivery.fate.value}


def _delivery(row: Mapping[Any, Any]) -> Delivery:
    return Delivery(**dict(row) | {"fate": Fate(row["fate"])})
