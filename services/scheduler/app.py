"""The composition root: the only file that knows which adapters are in use."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import grpc

from darkroom.scheduler.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    scheduler_service_pb2,
    scheduler_service_pb2_grpc,
)
from libs.blobs.opening import open_blobs
from libs.clients.limiter import LimiterClient
from libs.clients.modelserver import ModelServerClient
from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.fleet import directory
from libs.roles import MODELSERVER, RATELIMITER, SCHEDULER
from libs.rpc.health import LEADER
from libs.rpc.mesh import Mesh, join
from libs.rpc.server import RpcServer, reachable_address, wait_for_stop
from libs.sql.addresses import is_sqlite
from services.scheduler import delivery_servicer, long_lived, scaler_servicer
from services.scheduler.admin_servicer import AdminParts, AdminServicer
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.operators.model_moves import ModelMoves
from services.scheduler.replicas import leadership
from services.scheduler.replicas.candidacy import Candidacy
from services.scheduler.replicas.lead_store import NOBODY
from services.scheduler.replicas.relay import Front, LeaderLine, Relay
from services.scheduler.replicas.standby_desk import StandbyDesk
from services.scheduler.results.keeping import Results
from services.scheduler.scheduler import Connect, Scheduler
from services.scheduler.servicer import SchedulerServicer
from services.scheduler.settings import Settings
from services.scheduler.settlement.limiter_delivery import LimiterDelivery
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.sql_store import open_store
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)

SERVICES = tuple(f"darkroom.scheduler.v1.{name}Service" for name in ("Scheduler", "Admin", "Delivery"))
# What the store can answer, and how long the leader is waited for that also knows what goes on and who joined whom.
STANDBY_ANSWERS = {"Submit": 0, "FindJob": 0, "ListJobs": 0, "GetJob": 1, "CancelJob": 2, "DeleteJob": 9}


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
    clock, mesh = SystemClock(), join(settings.mtls, settings.secrets_folder, SCHEDULER, has_operators=True)
    blobs = await asyncio.to_thread(open_blobs, settings.blob_place)
    await persistently(clock, lambda: upgrade(settings.database))
    store, results = open_store(settings.database), Results(blobs, settings.keeping)
    server, holder = mesh.server(settings.listen), leadership.new_holder()
    line = LeaderLine(store, holder, lambda at: mesh.channel(at, SCHEDULER, as_operator=True))
    try:
        async with (
            EtcdClient(settings.etcd_endpoints) as etcd,
            mesh.channel(settings.limiter_address, RATELIMITER) as limiter,
            asyncio.TaskGroup() as agents,
        ):
            fleet = directory.Directory(EtcdRegistry(etcd, clock), clock)
            delivery = LimiterDelivery(LimiterClient(limiter))
            scheduler = Scheduler(store, fleet, _connector(mesh), delivery, results, clock, NOBODY)
            scheduler.go_by(settings.run_limits, settings.shares, settings.reference_device)
            scheduler.devices.costs = settings.device_costs
            _serve(scheduler, server.grpc, line)
            following = agents.create_task(fleet.run())
            if is_sqlite(settings.database):
                leading = await _lead_alone(scheduler, server, agents, holder)
            else:
                await server.start(SERVICES)
                candidacy = _candidacy(settings, etcd, store, holder, server.port)
                leading = agents.create_task(_lead_once_elected(scheduler, server, candidacy, line))
            await server.set_ready(True)
            async with scaler_servicer.serving(settings.scaler_listen, scheduler.scaling):
                yield server
            await server.drain(settings.drain_s, scheduler.end_streams)
            following.cancel()
            leading.cancel()  # attempts that run are left to the next leader
    finally:
        await server.grpc.stop(None)
        await line.close()
        await store.close()


def _serve(scheduler: Scheduler, server: grpc.aio.Server, line: LeaderLine) -> None:
    """Serve every service; while this replica stands by, what it cannot answer goes over `line` to the leader."""
    own, parts = SchedulerServicer(scheduler.parts), scheduler.parts
    standby_desk = StandbyDesk(parts.store, parts.clock, result_life_s=scheduler.result_life_s)
    standing_by = SchedulerServicer(dataclasses.replace(parts, desk=standby_desk))
    services = scheduler_service_pb2.DESCRIPTOR.services_by_name["SchedulerService"]
    relay = Relay(scheduler_service_pb2_grpc.SchedulerServiceStub, services, line)
    front = Front(scheduler.lead, own, relay, standing_by, STANDBY_ANSWERS)
    scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(cast("SchedulerServicer", front), server)
    delivery_servicer.add_to(server, parts.store, parts.clock)
    moves = ModelMoves(scheduler.fleet, scheduler.catalog)
    admin = AdminServicer(
        AdminParts(
            scheduler.fleet,
            scheduler.jobs,
            moves,
            scheduler.operator_desk,
            scheduler.ward,
            parts.clock,
            scheduler.devices,
        )
    )
    services = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
    admin_front = Front(scheduler.lead, admin, Relay(admin_service_pb2_grpc.AdminServiceStub, services, line))
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server(cast("AdminServicer", admin_front), server)


def _candidacy(settings: Settings, etcd: EtcdClient, store: JobStore, holder: str, port: int) -> Candidacy:
    address, ttl_s = reachable_address(settings.listen, port), settings.lease_ttl_s
    return Candidacy(etcd, store, SystemClock(), holder=holder, address=address, lease_ttl_s=ttl_s)


async def _lead_alone(
    scheduler: Scheduler, server: RpcServer, tasks: asyncio.TaskGroup, holder: str
) -> asyncio.Task[None]:
    """Take the lead of a database that nobody else has, and serve once memory is rebuilt; returns the task that leads."""
    scheduler.lead.epoch = await leadership.take(scheduler.parts.store, scheduler.parts.clock, holder)
    leading = await _lead(scheduler, server, tasks)
    await server.start(SERVICES)
    return leading


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


def _connector(mesh: Mesh) -> Connect:
    return lambda address: ModelServerClient(mesh.channel(address, MODELSERVER))
