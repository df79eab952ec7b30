"""Endpoints of tenants in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.ids import EndpointId, TenantId
from services.ratelimiter import schema
from services.ratelimiter.sql_database import Database
from services.ratelimiter.webhooks.endpoints import Endpoint


class SqlEndpoints:
    """Keeps the promises of `endpoints.Endpoints`. An endpoint's row is taken before those of its deliveries."""

    def __init__(self, database: Database) -> None:
        tables = schema.build().tables
        self._database, self._tenants = database, tables["tenants"]
        self._endpoints, self._deliveries = tables["webhook_endpoints"], tables["event_deliveries"]

    async def add(self, endpoint: Endpoint, most: int) -> bool:
        """Keep an endpoint unless its tenant has `most`."""
        endpoints, tenant_id = self._endpoints, endpoint.tenant_id
        one_at_a_time = select(self._tenants.c.id).where(self._tenants.c.id == tenant_id).with_for_update()
        counted = select(func.count()).select_from(endpoints).where(endpoints.c.tenant_id == tenant_id)

        async def write(within: AsyncConnection) -> bool:
            await within.execute(one_at_a_time)
            if (await within.execute(counted)).scalar_one() >= most:
                return False
            await within.execute(insert(endpoints).values(_row(endpoint)))
            return True

        return await self._database.write(write)

    async def list(self, tenant_id: TenantId) -> Sequence[Endpoint]:
        """Return the endpoints of a tenant, oldest first."""
        endpoints = self._endpoints
        asked = select(endpoints).where(endpoints.c.tenant_id == tenant_id)
        rows = await self._database.rows(asked.order_by(endpoints.c.created_at, endpoints.c.id))
        return [endpoint_of(row) for row in rows]

    async def remove(self, tenant_id: TenantId, endpoint_id: EndpointId) -> bool:
        """Remove an endpoint of a tenant and its deliveries."""
        endpoints, deliveries = self._endpoints, self._deliveries
        it = (endpoints.c.id == endpoint_id, endpoints.c.tenant_id == tenant_id)

        async def write(within: AsyncConnection) -> bool:
            if not (await within.execute(delete(endpoints).where(*it))).rowcount:
                return False
            await within.execute(delete(deliveries).where(deliveries.c.endpoint_id == endpoint_id))
            return True

        return await self._database.write(write)


def endpoint_of(row: Row[Any]) -> Endpoint:
    """Return the endpoint of a row."""
    return Endpoint(
        EndpointId(row.id),
        TenantId(row.tenant_id),
        row.url,
        row.host,
        tuple(row.kinds.split()),
        row.created_at,
        row.disabled_at,
    )


def _row(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "tenant_id": endpoint.tenant_id,
        "url": endpoint.url,
        "host": endpoint.host,
        "kinds": " ".join(endpoint.kinds),
        "created_at": endpoint.created_s,
        "disabled_at": endpoint.disabled_s,
    }
