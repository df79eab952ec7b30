"""The composition root: the only file that knows which adapters are in use."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import grpc

from darkroom.scheduler.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    scheduler_service_pb2,
    scheduler_service_pb2_grpc,
)
from libs import secret_files
from libs.blobs.opening import open_blobs
from libs.clients.limiter import LimiterClient
from libs.clients.modelserver import ModelServer, ModelServerClient
from libs.clock import Clock, SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.fleet import directory
from libs.rpc.channel import open_channel
from libs.rpc.health import LEADER
from libs.rpc.server import RpcServer, reachable_address, wait_for_stop
from libs.sql.addresses import is_sqlite
from services.scheduler import delivery_servicer, long_lived, scaler_servicer
from services.scheduler.admin_servicer import AdminParts, AdminServicer
from services.scheduler.attempts.checkpoint_sweeper import CheckpointSweeper
from services.scheduler.attempts.checkpoints import CheckpointBook
from services.scheduler.attempts.closer import Aides, AttemptCloser
from services.scheduler.attempts.listening import Listener
from services.scheduler.attempts.reattachment import Reattachment
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.attempts.run_limit import RunLimits
from services.scheduler.attempts.runner import AttemptRunner
from services.scheduler.catalog import CatalogKeeper
from services.scheduler.desk import Desk
from services.scheduler.dispatcher import Dispatcher
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.expirer import Expirer
from services.scheduler.forecast import instruments as forecast
from services.scheduler.forecast.estimator import Estimator
from services.scheduler.forecast.forecaster import Forecaster
from services.scheduler.forecast.scaling import TARGET_DRAIN_S, Scaling
from services.scheduler.instruments import Instruments, observe, observe_lead
from services.scheduler.job import Job
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.operators.model_moves import ModelMoves
from services.scheduler.operators.operations import Operations
from services.scheduler.operators.operator_desk import OperatorDesk
from services.scheduler.order.shares import Shares
from services.scheduler.placement.fleet import Directory, Fleet
from services.scheduler.placement.preempter import Preempter
from services.scheduler.placement.preloader import Preloader
from services.scheduler.replicas import leadership
from services.scheduler.replicas.candidacy import Candidacy
from services.scheduler.replicas.handover import Handover
from services.scheduler.replicas.lead import Lead
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.replicas.relay import Front, LeaderLine, Relay
from services.scheduler.replicas.standby_desk import StandbyDesk
from services.scheduler.results.follower import Follower
from services.scheduler.results.keeping import Results
from services.scheduler.results.keys import Keys
from services.scheduler.results.sweeper import ResultSweeper
from services.scheduler.retries.substitution import Substitution
from services.scheduler.retries.verdicts import Judge
from services.scheduler.retries.ward import Ward
from services.scheduler.servicer import Parts, SchedulerServicer
from services.scheduler.settings import Settings
from services.scheduler.settlement.limiter_delivery import LimiterDelivery
from services.scheduler.settlement.outbox import Limiter, Outbox
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.sql_store import open_store
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)

SERVICES = tuple(f"darkroom.scheduler.v1.{name}Service" for name in ("Scheduler", "Admin", "Delivery"))
# What the store can answer, and how long the leader is waited for that also knows what goes on and who joined whom.
STANDBY_ANSWERS = {"Submit": 0, "FindJob": 0, "ListJobs": 0, "GetJob": 1, "CancelJob": 2, "DeleteJob": 9}
Connect = Callable[[str], ModelServer]


class Scheduler:
    """The parts of a scheduler on the store, fleet and peers it is given.

    `epoch` is that of its lead; with NOBODY it stands by until `lead` says otherwise.
    """

    def __init__(
        self,
        store: JobStore,
        fleet_directory: Directory,
        connect: Connect,
        limiter: Limiter,
        results: Results,
        clock: Clock,
        epoch: int,
    ) -> None:
        instruments, self._clock, blobs, life_s = Instruments(), clock, results.blobs, results.keeping.result_life_s
        self._life_s, self.lead = life_s, Lead(epoch, serving=epoch != NOBODY)
        self.hub = WatchHub(store, clock)
        self.jobs = OpenJobs(self.hub, instruments, clock)
        self.fleet = Fleet(fleet_directory, connect, clock, self._fleet_changed)
        self.operations = Operations(store, clock, self.lead)
        self.operations.on_changed = lambda: self.fleet.wish(self.operations)
        self.catalog = CatalogKeeper(store, self.fleet, clock, self.lead)
        self.reconciler = Reconciler(store, self.jobs, clock, self.lead)
        self.handover = Handover(store, self.reconciler, clock)
        self.outbox = Outbox(store, limiter, instruments, clock)
        self.jobs.on_outbox = self.outbox.ring
        self.sweeper = CheckpointSweeper(store, self.jobs, blobs, clock)
        self.ward = Ward(store, self.fleet, clock, self.lead)
        self.jobs.on_ended = self._job_ended
        self.expirer = Expirer(store, self.jobs, self.reconciler, clock)
        self._add_dispatch(store, instruments, life_s)
        self.operator_desk = OperatorDesk(
            store, self.jobs, self.fleet, self.operations, self.catalog, self.reconciler, clock
        )
        self.preloader, keys = Preloader(self.jobs, self.fleet, instruments, clock), Keys(self.fleet, results.keeping)
        self.result_sweeper = ResultSweeper(store, self.jobs, results, clock, self.lead)
        self.desk = Desk(store, self.jobs, self.reconciler, self.result_sweeper.removal, clock, result_life_s=life_s)
        self.forecaster = Forecaster(self.jobs, self.fleet, self.hub, clock)
        self.estimator = Estimator(self.jobs, self.fleet, self.forecaster, clock)
        self.follower, self.dispatcher.key_of = Follower(store, self.jobs, clock, self.lead), keys.as_drawn
        self._parts = Parts(store, self.desk, self.hub, self.estimator, self.catalog, clock, keys)
        self.scaling = self._shown(Scaling(self.forecaster.demand, store, lambda: self.lead.serving, clock))

    def _add_dispatch(self, store: JobStore, instruments: Instruments, life_s: float) -> None:
        clock, judge = self._clock, Judge(result_life_s=life_s, jitter=random.random)
        self.substitution = Substitution(store, self.jobs, self.fleet, self.catalog, self.reconciler, clock)
        aides = Aides(judge, self.ward, self.substitution)
        closer = AttemptCloser(store, self.jobs, self.reconciler, aides, instruments, clock)
        book = CheckpointBook(store, clock, self.lead)
        listener = Listener(self.fleet, self.hub, book, clock)
        self.preempter = preempter = Preempter(self.jobs, self.fleet, instruments, clock)
        self.runner = runner = AttemptRunner(self.fleet, listener, preempter, closer, clock)
        self.reattachment = Reattachment(store, self.jobs, self.fleet, runner, self.reconciler, clock)
        self.dispatcher = Dispatcher(store, self.jobs, self.fleet, runner, self.reconciler, preempter, clock)

    def go_by(self, limits: RunLimits, shares: Shares) -> None:
        """Take an operator's word for how long jobs may draw and what tiers weigh; call it before `run`."""
        self.runner.limits = limits
        self.jobs.ordering.share(shares)

    def add_to(self, server: grpc.aio.Server, line: LeaderLine) -> None:
        """Serve every service; while this replica stands by, what it cannot answer goes over `line` to the leader."""
        own, parts = SchedulerServicer(self._parts), self._parts
        standby_desk = StandbyDesk(parts.store, self._clock, result_life_s=self._life_s)
        standing_by = SchedulerServicer(dataclasses.replace(parts, desk=standby_desk))
        services = scheduler_service_pb2.DESCRIPTOR.services_by_name["SchedulerService"]
        relay = Relay(scheduler_service_pb2_grpc.SchedulerServiceStub, services, line)
        front = Front(self.lead, own, relay, standing_by, STANDBY_ANSWERS)
        scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(cast("SchedulerServicer", front), server)
        delivery_servicer.add_to(server, parts.store, self._clock)
        moves = ModelMoves(self.fleet, self.catalog)
        admin = AdminServicer(AdminParts(self.fleet, self.jobs, moves, self.operator_desk, self.ward, self._clock))
        services = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
        admin_front = Front(self.lead, admin, Relay(admin_service_pb2_grpc.AdminServiceStub, services, line))
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(cast("AdminServicer", admin_front), server)

    async def run(self, ready: asyncio.Event | None = None) -> None:
        """Rebuild memory, say ready, and run every agent until cancelled. Raises Deposed (in a group)."""
        await self.catalog.load()
        await self.operations.load()
        self.fleet.wish(self.operations)
        await self.ward.load()
        orphans = await self.reconciler.recover()
        self.reattachment.expect(orphans)
        async with asyncio.TaskGroup() as agents:
            agents.create_task(self.reattachment.run(orphans))
            agents.create_task(self.fleet.run())
            agents.create_task(self.catalog.run())
            agents.create_task(self.dispatcher.run())
            agents.create_task(self.expirer.run())
            agents.create_task(self.substitution.run())
            agents.create_task(self.outbox.run())
            agents.create_task(self.reconciler.run())
            agents.create_task(self.sweeper.run())
            agents.create_task(self.forecaster.run())
            agents.create_task(self.preloader.run())
            agents.create_task(self.follower.run())
            agents.create_task(self.result_sweeper.run())
            if ready is not None:
                ready.set()

    async def end_streams(self) -> None:
        """End every watch, so that a stop does not wait for its readers."""
        self.hub.stop()
        self.catalog.stop()

    def _shown(self, scaling: Scaling) -> Scaling:
        """Show queue, fleet and demand as metrics, and tell `scaling` when the demand changes."""
        observe(self.jobs.ordering, self.preempter.parked, self.fleet.workers, self.fleet.given, self._clock.now)
        self.forecaster.on_demand = scaling.ring
        forecast.observe(self.forecaster.demand, self.forecaster.promises.outcomes, TARGET_DRAIN_S)
        self.ward.observe()
        observe_lead(lambda: self.lead.serving)
        return scaling

    def _job_ended(self, job: Job) -> None:
        self.sweeper.job_ended(job)
        self.ward.job_ended(job)

    def _fleet_changed(self) -> None:
        self.jobs.work.ring()
        self.catalog.fleet_changed()


async def main(settings: Settings) -> None:
    """Serve until a stop signal."""
    long_lived.begin()
    async with running(settings) as server:
        stopped_by = await wait_for_stop()
        logger.info("stopping", extra={"signal": stopped_by, "port": server.port})


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[RpcServer]:
    """Give the server once calls are welcome: tables current and, alone on a file, the lead taken and open jobs read.

    On a server's database it stands by at once, and leads when it is elected.
    """
    clock, token = SystemClock(), secret_files.read_token(settings.secrets_folder, secret_files.MESH_TOKEN)
    operator = secret_files.read_token(settings.secrets_folder, secret_files.OPERATOR_TOKEN)
    blobs = await asyncio.to_thread(open_blobs, settings.blob_place)
    await persistently(clock, lambda: upgrade(settings.database))
    store, results = open_store(settings.database), Results(blobs, settings.keeping)
    server = RpcServer(settings.listen, mesh_token=token, operator_token=operator)
    holder = leadership.new_holder()
    line = LeaderLine(store, holder, lambda at: open_channel(at, mesh_token=token, operator_token=operator))
    try:
        async with (
            EtcdClient(settings.etcd_endpoints) as etcd,
            open_channel(settings.limiter_address, mesh_token=token) as limiter,
            asyncio.TaskGroup() as agents,
        ):
            fleet = directory.Directory(EtcdRegistry(etcd, clock), clock)
            delivery = LimiterDelivery(LimiterClient(limiter))
            scheduler = Scheduler(store, fleet, _connector(token), delivery, results, clock, NOBODY)
            scheduler.go_by(settings.run_limits, settings.shares)
            scheduler.add_to(server.grpc, line)
            running = [agents.create_task(fleet.run())]
            if is_sqlite(settings.database):
                scheduler.lead.epoch = await leadership.take(store, clock, holder)
                running.append(await _lead(scheduler, server, agents))
                await server.start(SERVICES)
            else:
                await server.start(SERVICES)
                candidacy = _candidacy(settings, etcd, store, holder, server.port)
                running.append(agents.create_task(_lead_once_elected(scheduler, server, candidacy, line)))
            await server.set_ready(True)
            async with scaler_servicer.serving(settings.scaler_listen, scheduler.scaling):
                yield server
            await server.drain(settings.drain_s, scheduler.end_streams)
            for task in running:  # attempts that run are left to the next leader
                task.cancel()
    finally:
        await server.grpc.stop(None)
        await line.close()
        await store.close()


def _candidacy(settings: Settings, etcd: EtcdClient, store: JobStore, holder: str, port: int) -> Candidacy:
    address, ttl_s = reachable_address(settings.listen, port), settings.lease_ttl_s
    return Candidacy(etcd, store, SystemClock(), holder=holder, address=address, lease_ttl_s=ttl_s)


async def _lead_once_elected(scheduler: Scheduler, server: RpcServer, candidacy: Candidacy, line: LeaderLine) -> None:
    """Stand by until elected, then lead until cancelled. Raises Deposed (in a group)."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(candidacy.run())
        scheduler.lead.epoch = await candidacy.win()
        tasks.create_task(candidacy.hold())
        await _lead(scheduler, server, tasks)
        tasks.create_task(scheduler.handover.run())
        await line.close()


async def _lead(scheduler: Scheduler, server: RpcServer, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
    """Begin to lead; returns the task that does once memory is rebuilt."""
    ready = asyncio.Event()
    leading = tasks.create_task(scheduler.run(ready))
    await ready.wait()
    scheduler.lead.serving = True
    await server.take_role(LEADER)
    return leading


def _connector(token: str) -> Connect:
    return lambda address: ModelServerClient(open_channel(address, mesh_token=token))
