"""The composition root: settings in; engine, models, worker, servicer, announcement wired; drained in order.

secrets, blobs → engine and models (in a thread: torch takes seconds) → listener → announced, ready
signal or lost device → not ready, record draining → waiting work handed back, running work finished → gone
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

from darkroom.modelserver.v1 import modelserver_service_pb2_grpc as rpc
from libs import secret_files
from libs.blobs.opening import open_blobs
from libs.blobs.store import BlobStore
from libs.clock import Clock, SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.coordination.registry import Registry
from libs.ids import WorkerId
from libs.rpc.server import RpcServer, wait_for_stop
from services.modelserver.announce import Announcement, first_record, make_announcer, reachable_address
from services.modelserver.attempts import Attempts
from services.modelserver.delivery import Delivery
from services.modelserver.digests import FileDigests
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.protocol import Engine
from services.modelserver.engine.whole import WholePipelineEngine
from services.modelserver.gpu import open_gpu
from services.modelserver.instruments import StageRecorder, observe_worker
from services.modelserver.models import ModelFolder, scan
from services.modelserver.servicer import SERVICE, ModelServerServicer
from services.modelserver.settings import ModelServerSettings
from services.modelserver.shelf import Shelf
from services.modelserver.worker import Worker

logger = logging.getLogger(__name__)

_FINISH_SHARE = 0.7  # of the drain time is for the running attempt; the rest is for handing it back and closing


class ModelServer:
    """A listening, announced worker on given adapters; the process and the tests start it the same way."""

    def __init__(
        self,
        settings: ModelServerSettings,
        engine: Engine,
        folders: tuple[ModelFolder, ...],
        blobs: BlobStore,
        registry: Registry,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._registry = registry
        self._clock = clock
        self._shelf = Shelf(folders)
        self.worker = Worker(engine, self._shelf, Delivery(blobs, clock), clock)
        self._server = RpcServer(
            settings.listen, mesh_token=secret_files.read_token(settings.secrets_folder, secret_files.MESH_TOKEN)
        )
        self._announcing: asyncio.Task[None] | None = None
        self.address = ""

    async def start(self) -> None:
        """Listen, be announced, say ready."""
        worker_id = WorkerId(self._settings.worker_id)
        attempts = Attempts(self.worker, self._clock, StageRecorder().record)
        servicer = ModelServerServicer(attempts, self._shelf, self._engine)
        rpc.add_ModelServerServiceServicer_to_server(servicer, self._server.grpc)
        self.worker.start()
        await self._server.start([SERVICE])
        self.address = reachable_address(self._settings.listen, self._server.port)
        record = first_record(worker_id, self.address, self._engine, self._shelf, self._clock)
        announcer = make_announcer(self._registry, record, self._settings.lease_ttl_s, self._clock)
        announcement = Announcement(announcer, self.worker, self._shelf, self._engine)
        self.worker.on_change = announcement.refresh
        self._announcing = asyncio.create_task(announcement.run(), name="announce")
        observe_worker(worker_id, self._engine, lambda: self.worker.rows_in_use, open_gpu(self._engine.device.id))
        await self._server.set_ready(True)

    async def stop(self) -> None:
        """Drain, then leave."""
        drain_s = self._settings.drain_s
        await self._server.drain(drain_s, lambda: self.worker.drain(drain_s * _FINISH_SHARE))
        if self._announcing is not None:
            self._announcing.cancel()
            (ended,) = await asyncio.gather(self._announcing, return_exceptions=True)
            if isinstance(ended, Exception):
                logger.error("announcing failed", exc_info=ended)
        await self.worker.stop()

    async def until_stopped(self) -> str:
        """Wait for a signal, a lost device or the end of the announcing; returns which."""
        waits = {
            asyncio.create_task(wait_for_stop(), name="signal"),
            asyncio.create_task(self.worker.device_lost.wait(), name="device lost"),
        }
        announcing = {self._announcing} if self._announcing is not None else set()
        done, _ = await asyncio.wait(waits | announcing, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        return done.pop().get_name()


async def main(settings: ModelServerSettings) -> None:
    """Run the process until it is told to stop; exits with 1 when the device was lost."""
    clock = SystemClock()
    blobs = open_blobs(settings.blob_place)
    async with AsyncExitStack() as stack:
        engine, folders = await asyncio.to_thread(_prepare, settings)
        client = await stack.enter_async_context(EtcdClient(settings.etcd_endpoints))
        server = ModelServer(settings, engine, folders, blobs, EtcdRegistry(client, clock), clock)
        await server.start()
        why = await server.until_stopped()
        logger.info("stopping", extra={"cause": why})
        await server.stop()
    if why != "signal":
        raise SystemExit(1)


def _prepare(settings: ModelServerSettings) -> tuple[Engine, tuple[ModelFolder, ...]]:
    """Open the device and read the model folders; blocks."""
    engine = WholePipelineEngine(Device(settings.device, settings.threads))
    digests = FileDigests(settings.data / "run" / "model-digests.json")
    return engine, scan(settings.model_folders, digests, LibraryClasses())
