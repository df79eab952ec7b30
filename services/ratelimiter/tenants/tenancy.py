"""The parts that know tenants, put together: tiers, agreements, money, reports and webhooks over one database.

With `app` the only module that knows which adapters are in use.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import grpc

from darkroom.ratelimiter.v1 import (
    account_service_pb2_grpc,
    tenant_service_pb2_grpc,
    usage_service_pb2_grpc,
    webhook_service_pb2_grpc,
)
from libs.clock import Clock
from libs.rpc.server import RpcServer
from services.ratelimiter.decider import Decider
from services.ratelimiter.keys.sql_accounts import SqlAccounts
from services.ratelimiter.meters import Meters
from services.ratelimiter.settings import Settings
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.account_servicer import AccountServicer
from services.ratelimiter.tenants.own_account import OwnAccount
from services.ratelimiter.tenants.servicer import TenantServicer
from services.ratelimiter.tenants.sql_events import SqlTenantEvents
from services.ratelimiter.tenants.sql_tenants import SqlTenants
from services.ratelimiter.tenants.sql_wallets import SqlWallets
from services.ratelimiter.tenants.tenants import Tenants
from services.ratelimiter.tenants.till import Till
from services.ratelimiter.tiers.agreed import Agreed
from services.ratelimiter.tiers.file import TiersFile
from services.ratelimiter.tiers.sql_agreements import SqlAgreements
from services.ratelimiter.usage.alerting import Alerting
from services.ratelimiter.usage.retention import Retention
from services.ratelimiter.usage.servicer import UsageServicer
from services.ratelimiter.usage.sql_book import SqlUsage
from services.ratelimiter.usage.sql_reports import SqlReports
from services.ratelimiter.webhooks.endpoints import OwnEndpoints
from services.ratelimiter.webhooks.servicer import WebhookServicer
from services.ratelimiter.webhooks.sql_deliveries import SqlEventDeliveries
from services.ratelimiter.webhooks.sql_endpoints import SqlEndpoints

SERVICES = tuple(f"darkroom.ratelimiter.v1.{name}Service" for name in ("Account", "Tenant", "Usage", "Webhook"))

TIERS = "darkroom.tiers"  # health checks by this name: SERVING while the file as it lies there is in force


class Tenancy:
    """Opened before the limiter, which asks its `tariffs`; `prepare`, then run its `loops`."""

    def __init__(self, settings: Settings, database: Database, clock: Clock, meters: Meters) -> None:
        """Read the tiers. Raises BadTiers."""
        self._settings, self._database, self._clock, self._meters = settings, database, clock, meters
        self._tiers = TiersFile(settings.tiers, settings.data, clock, meters)
        self.tariffs = self._tiers.tariffs
        self._wallets, self._events = SqlWallets(database), SqlTenantEvents(database)
        self._agreements = SqlAgreements(database)
        self._agreed = Agreed(self._agreements, self.tariffs, clock)

    def till(self, limiter: Decider) -> Till:
        """Return what stands before the limiter where money is held."""
        return Till(limiter, self.tariffs, self._wallets, self._clock)

    def add_to(self, server: grpc.aio.Server, limiter: Decider) -> None:
        """Serve the calls of operators, those of tenants about themselves, and what gateways ask of webhooks."""
        tenants = Tenants(
            SqlTenants(self._database),
            SqlAccounts(self._database),
            self._agreements,
            self._wallets,
            self.tariffs,
            self._clock,
        )
        servicer = TenantServicer(tenants, self._tiers, limiter, self._events)
        tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(servicer, server)
        reports = SqlReports(self._database)
        usage_service_pb2_grpc.add_UsageServiceServicer_to_server(UsageServicer(reports), server)
        account = OwnAccount(limiter, self.tariffs, self._wallets, reports, self._events, self._clock)
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(AccountServicer(account), server)
        own = OwnEndpoints(SqlEndpoints(self._database), self._clock)
        webhooks = WebhookServicer(own, SqlEventDeliveries(self._database), self._clock)
        webhook_service_pb2_grpc.add_WebhookServiceServicer_to_server(webhooks, server)

    async def prepare(self) -> None:
        """Learn what is agreed, before the first decision. Raises Unavailable."""
        await self._agreed.look()

    def loops(self, till: Till, server: RpcServer) -> list[Coroutine[Any, Any, None]]:
        """Return what must run for as long as the process; health checks of `server` hear of the tiers."""
        life_s = self._settings.usage_life_s
        retention = Retention(SqlUsage(self._database), self._events, self._clock, life_s)
        ttl_s = self._settings.reservation_ttl_s
        return [
            self._tiers.run(lambda good: server.tell(TIERS, well=good)),
            self._agreed.run(),
            till.run(ttl_s),
            retention.run(),
            self._alerting().run(),
        ]

    def _alerting(self) -> Alerting:
        return Alerting(
            SqlReports(self._database),
            SqlTenants(self._database),
            self._wallets,
            self._events,
            self.tariffs,
            self._meters,
            self._clock,
        )
