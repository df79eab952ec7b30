"""The gateway, put together: the one place where its parts meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from darkroom.v1 import account_service_pb2 as accounts
from darkroom.v1 import generation_service_pb2 as generation
from darkroom.v1 import model_service_pb2 as models
from darkroom.v1 import site_service_pb2 as site
from darkroom.v1 import upload_service_pb2 as uploading
from darkroom.v1 import webhook_service_pb2 as webhooks
from darkroom.v1.account_service_pb2_grpc import add_AccountServiceServicer_to_server, add_KeyServiceServicer_to_server
from darkroom.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from darkroom.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from darkroom.v1.site_service_pb2_grpc import add_SiteServiceServicer_to_server
from darkroom.v1.upload_service_pb2_grpc import add_UploadServiceServicer_to_server
from darkroom.v1.webhook_service_pb2_grpc import add_WebhookServiceServicer_to_server
from libs.blobs.opening import open_blobs
from libs.blobs.store import BlobStore
from libs.clients.account import AccountClient
from libs.clients.endpoints import EndpointsClient
from libs.clients.identity import IdentityClient
from libs.clients.limiter import LimiterClient
from libs.clients.scheduler import SchedulerClient
from libs.clock import Clock, SystemClock
from libs.roles import GATEWAY, RATELIMITER, SCHEDULER
from libs.rpc.mesh import join
from libs.rpc.server import RpcServer, wait_for_stop
from libs.secret_files import WEBHOOK_SECRET, SigningKeys, read_signing_keys, read_token
from libs.signing import Signer
from libs.telemetry import metrics
from services.gateway.accounts.own_account import OwnAccount
from services.gateway.accounts.servicer import AccountServicer, KeyServicer
from services.gateway.callers.permissions import Guarded
from services.gateway.callers.request_count import RequestCount
from services.gateway.callers.withdrawals import Keys, Withdrawals
from services.gateway.catalog import CatalogView, CatalogWatcher
from services.gateway.creating.admission import Admission
from services.gateway.creating.creation import Creation
from services.gateway.creating.estimating import Estimator
from services.gateway.health import HealthCheck
from services.gateway.measuring import AnswerMeasures, Measured
from services.gateway.model_servicer import ModelServicer
from services.gateway.peers import Account, Identity, Limiter, Scheduler
from services.gateway.reading.downloads import Downloads
from services.gateway.reading.links import Links
from services.gateway.reading.page_tokens import PageTokens
from services.gateway.reading.presentation import Presenter
from services.gateway.reading.relay import EventRelay
from services.gateway.reading.waiting import Waiting
from services.gateway.servicer import GenerationServicer, Parts
from services.gateway.settings import AFTER_RESERVE, Settings
from services.gateway.site_servicer import SiteServicer, load_page
from services.gateway.tier_watch import TierWatch
from services.gateway.uploads.servicer import UploadServicer
from services.gateway.uploads.uploads import Uploads
from services.gateway.webhooks.delivering import Agents, Delivering
from services.gateway.webhooks.destinations import PUBLIC_ONLY, Destinations

_Served: TypeAlias = tuple[str, object, Callable[[Any, grpc.aio.Server], None]]

SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (generation, "GenerationService"),
        (models, "ModelService"),
        (site, "SiteService"),
        (uploading, "UploadService"),
        (accounts, "AccountService"),
        (accounts, "KeyService"),
        (webhooks, "WebhookService"),
    )
)


class Gateway:
    """The parts of a gateway on the peers it is given."""

    def __init__(
        self,
        scheduler: Scheduler,
        limiter: Limiter,
        blobs: BlobStore,
        keys: SigningKeys,
        clock: Clock,
        after_reserve: Callable[[], None] = lambda: None,
        destinations: Destinations = PUBLIC_ONLY,
    ) -> None:
        self.catalog, signer = CatalogView(), Signer(keys)
        self._signer, self._clock = signer, clock
        self.watcher = CatalogWatcher(scheduler, self.catalog, clock)
        links = Links(signer)
        presenter = Presenter(links)
        self.relay, self.withdrawals = EventRelay(scheduler, presenter, clock), Withdrawals(clock)
        self._uploads, self._requests = Uploads(blobs, limiter, clock), RequestCount(limiter)
        admission = Admission(scheduler, limiter, self.catalog, self._uploads, clock, after_reserve, destinations)
        waiting = Waiting(scheduler, self.relay, self.withdrawals, clock)
        self._parts = Parts(
            scheduler=scheduler,
            creation=Creation(admission, self._uploads, waiting, presenter),
            estimator=Estimator(scheduler, limiter, self.catalog, self._uploads, destinations),
            relay=self.relay,
            downloads=Downloads(scheduler, blobs, links, clock),
            presenter=presenter,
            links=links,
            pages=PageTokens(signer),
            withdrawals=self.withdrawals,
            clock=clock,
        )
        self.tiers = TierWatch(limiter, self.catalog, clock, metrics.meter())
        self._health = HealthCheck(scheduler, limiter, self.catalog)
        self._measures = AnswerMeasures(metrics.meter(), clock)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve the public services."""
        served: tuple[_Served, ...] = (
            ("GenerationService", GenerationServicer(self._parts), add_GenerationServiceServicer_to_server),
            ("ModelService", ModelServicer(self.catalog), add_ModelServiceServicer_to_server),
            ("SiteService", SiteServicer(self._health, load_page()), add_SiteServiceServicer_to_server),
            ("UploadService", UploadServicer(self._uploads), add_UploadServiceServicer_to_server),
        )
        self._serve(served, server)

    def add_accounts_to(self, server: grpc.aio.Server, identity: Identity, account: Account) -> None:
        """Serve accounts and keys."""
        own = OwnAccount(account, self._signer, self._clock)
        key_servicer = KeyServicer(identity, self._requests, PageTokens(self._signer, "key-page"))
        served: tuple[_Served, ...] = (
            ("AccountService", AccountServicer(identity, own), add_AccountServiceServicer_to_server),
            ("KeyService", key_servicer, add_KeyServiceServicer_to_server),
        )
        self._serve(served, server)

    def add_webhooks_to(self, server: grpc.aio.Server, delivering: Delivering, endpoints: EndpointsClient) -> None:
        """Serve where accounts are told of what happens to them."""
        servicer = delivering.servicer(endpoints, self._requests)
        self._serve((("WebhookService", servicer, add_WebhookServiceServicer_to_server),), server)

    def _serve(self, served: tuple[_Served, ...], server: grpc.aio.Server) -> None:
        for service, servicer, add in served:
            add(Measured(Guarded(servicer, service), self._measures), server)


async def main(settings: Settings) -> None:
    """Serve until a signal comes."""
    mesh = join(settings.mtls, settings.secrets_folder, GATEWAY)
    keys, secret = read_signing_keys(settings.secrets_folder), read_token(settings.secrets_folder, WEBHOOK_SECRET)
    blobs = await asyncio.to_thread(open_blobs, settings.blob_place)
    async with (
        mesh.channel(settings.scheduler_address, SCHEDULER) as scheduler,
        mesh.channel(settings.limiter_address, RATELIMITER) as limiter,
    ):
        peers, destinations = (SchedulerClient(scheduler), LimiterClient(limiter)), settings.destinations
        gateway = Gateway(*peers, blobs, keys, SystemClock(), _failpoint(settings), destinations)
        server = mesh.server(settings.listen)
        gateway.add_to(server.grpc)
        identity = IdentityClient(limiter)
        gateway.add_accounts_to(server.grpc, identity, AccountClient(limiter))
        delivering = Delivering(destinations, secret, SystemClock())
        gateway.add_webhooks_to(server.grpc, delivering, EndpointsClient(limiter))
        await server.start(SERVICES)
        async with delivering.running(scheduler, limiter) as agents:
            await _serve(gateway, server, agents, identity, settings.drain_s)


async def _serve(gateway: Gateway, server: RpcServer, agents: Agents, keys: Keys, drain_s: float) -> None:
    async with asyncio.TaskGroup() as tasks:
        loops = (gateway.watcher.run(), gateway.withdrawals.run(keys), gateway.tiers.run())
        watching = [tasks.create_task(loop) for loop in loops]
        await server.set_ready(True)
        await wait_for_stop()

        async def end_streams() -> None:
            gateway.relay.stop()

        await asyncio.gather(server.drain(drain_s, end_streams), agents.drain(drain_s))
        for task in watching:
            task.cancel()


def _failpoint(settings: Settings) -> Callable[[], None]:
    """Return what happens between Reserve and Submit: nothing, or the death that a fault test asked for."""
    return (lambda: os._exit(9)) if settings.failpoint == AFTER_RESERVE else (lambda: None)
