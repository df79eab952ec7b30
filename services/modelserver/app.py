"""The composition root: settings in; engine, models, worker, servicer, announcement wired; drained in order.

secrets, blobs → engine and models (in a thread: torch takes seconds) → listener → announced, ready
signal or lost device → not ready, record draining → waiting work handed back, running work finished or handed over
    with its checkpoints → gone
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from darkroom.modelserver.v1 import modelserver_service_pb2_grpc as rpc
from libs.blobs.opening import open_blobs
from libs.blobs.store import BlobStore
from libs.clock import Clock, SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.coordination.registry import Registry
from libs.ids import WorkerId
from libs.roles import MODELSERVER
from libs.rpc import mesh
from libs.rpc.server import reachable_address, wait_for_stop
from services.modelserver import watchdog
from services.modelserver.announce import Announcement, Sources, first_record, make_announcer
from services.modelserver.attempts import Attempts
from services.modelserver.carriers import Carriers
from services.modelserver.checkpoints import Checkpoints
from services.modelserver.delivery import Delivery
from services.modelserver.device_time import DeviceTime
from services.modelserver.drawing_build import drawing_build
from services.modelserver.fitting import Fitting, fit_out
from services.modelserver.gpu import open_gpu
from services.modelserver.inputs import InputReader
from services.modelserver.instruments import StageRecorder, observe_worker
from services.modelserver.servicer import SERVICE, ModelServerServicer
from services.modelserver.settings import ModelServerSettings
from services.modelserver.shelf import Shelf
from services.modelserver.stockroom import Stockroom
from services.modelserver.watchdog import Watchdog
from services.modelserver.worker import Worker

logger = logging.getLogger(__name__)

_FINISH_SHARE = 0.5  # of the drain time is for what draws to end
_HAND_OVER_SHARE = 0.25  # then for its checkpoints; the rest is for handing it back and closing
_LEAVE_S = 30.0  # for a process whose device does not answer to end in order
HoldOff = Callable[[float], None]


def _nothing_to_hold_off(_seconds: float) -> None:
    return None


class ModelServer:
    """A listening, announced worker on given adapters; the process and the tests start it the same way."""

    def __init__(
        self,
        settings: ModelServerSettings,
        fitting: Fitting,
        blobs: BlobStore,
        registry: Registry,
        clock: Clock,
        hold_off: HoldOff = _nothing_to_hold_off,
    ) -> None:
        self._settings, self._fitting = settings, fitting
        self._registry, self._clock, self._hold_off = registry, clock, hold_off
        delivery = Delivery(blobs, fitting.checker, clock)
        carriers = Carriers(fitting.checker, InputReader(blobs), Checkpoints(blobs), fitting.urgency, delivery)
        self._shelf = Shelf(fitting.folders)
        self.worker = Worker(fitting.engine, self._shelf, carriers, clock, settings.slots)
        self._server = mesh.join(settings.mtls, settings.secrets_folder, MODELSERVER).server(settings.listen)
        self._agents: list[asyncio.Task[None]] = []
        self.address = ""

    async def start(self) -> None:
        """Listen, be announced, say ready."""
        stockroom = Stockroom(self._fitting.engine, self.worker.device, self._shelf)
        engine = self._fitting.engine
        device_time = DeviceTime(lambda: engine.stats().busy_seconds, lambda: bool(engine.load_share()), self._clock)
        attempts = Attempts(self.worker, self._clock, StageRecorder().record, device_time.ended)
        servicer = ModelServerServicer(attempts, self._shelf, stockroom, device_time)
        rpc.add_ModelServerServiceServicer_to_server(servicer, self._server.grpc)
        self.worker.start()
        await self._server.start([SERVICE])
        self.address = reachable_address(self._settings.listen, self._server.port)
        self._agents = [
            asyncio.create_task(self._announcement().run(), name="announce"),
            asyncio.create_task(self._watch(), name="watchdog"),
            asyncio.create_task(device_time.run(), name="device time"),
            asyncio.create_task(self._fitting.measurements.keep(self._clock), name="measurements"),
        ]
        await self._server.set_ready(True)

    async def stop(self) -> bool:
        """Drain, then leave; False when the device does not let go of its thread."""
        drain_s = self._settings.drain_s
        await self._server.drain(
            drain_s, lambda: self.worker.drain(drain_s * _FINISH_SHARE, drain_s * _HAND_OVER_SHARE)
        )
        for agent in self._agents:
            agent.cancel()
        for ended in await asyncio.gather(*self._agents, return_exceptions=True):
            if isinstance(ended, Exception):
                logger.error("a part of the worker failed", exc_info=ended)
        return await self.worker.stop()

    async def until_stopped(self) -> str:
        """Wait for a signal, a lost device or the end of one of the agents; returns which."""
        waits = {
            asyncio.create_task(wait_for_stop(), name="signal"),
            asyncio.create_task(self.worker.device_lost.wait(), name="device lost"),
        }
        done, _ = await asyncio.wait(waits.union(self._agents), return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        return done.pop().get_name()

    def _announcement(self) -> Announcement:
        worker_id, engine = WorkerId(self._settings.worker_id), self._fitting.engine
        gpu, table = open_gpu(engine.device.id), self._fitting.measurements.table
        build_of = functools.cache(functools.partial(drawing_build, self._fitting.folders, engine.device.id))
        checker = self._fitting.checker
        record = first_record(worker_id, self.address, engine, self._shelf, self._clock, build=build_of(checker.policy))
        announcer = make_announcer(self._registry, record, self._settings.lease_ttl_s, self._clock)
        sources = Sources(gpu, lambda: table.version, self._clock, lambda: build_of(checker.policy))
        announcement = Announcement(announcer, self.worker, self._shelf, engine, sources)
        self.worker.on_change = announcement.refresh
        observe_worker(worker_id, engine, lambda: self.worker.rows_in_use, gpu)
        return announcement

    async def _watch(self) -> None:
        self.worker.give_up(await Watchdog(self.worker.pulse, self._clock, self._hold_off).run())


async def main(settings: ModelServerSettings) -> None:
    """Run the process until it is told to stop; exits with 1 when the device was lost."""
    clock = SystemClock()
    blobs = open_blobs(settings.blob_place)
    async with AsyncExitStack() as stack:
        fitting = await asyncio.to_thread(fit_out, settings)
        client = await stack.enter_async_context(EtcdClient(settings.etcd_endpoints))
        registry = EtcdRegistry(client, clock)
        server = ModelServer(settings, fitting, blobs, registry, clock, watchdog.end_process_after)
        await server.start()
        why = await server.until_stopped()
        logger.info("stopping", extra={"cause": why})
        ended = await server.stop()
        watchdog.end_process_after(_LEAVE_S)
    if why != "signal" or not ended:
        raise SystemExit(1)
    watchdog.call_off()
