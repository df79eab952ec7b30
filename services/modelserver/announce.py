"""What this worker says of itself to the schedulers, kept current in the registry."""

from __future__ import annotations

import logging
import socket
import uuid
from dataclasses import replace

from libs.clock import Clock
from libs.coordination.registry import Registry
from libs.fleet.announce import Announcer
from libs.fleet.record import BadRecord, WorkerRecord
from libs.ids import WorkerId
from services.modelserver.engine.protocol import Engine
from services.modelserver.shelf import Shelf
from services.modelserver.worker import ROWS, Worker

logger = logging.getLogger(__name__)

_ANY_INTERFACE = ("0.0.0.0", "[::]", "::")


class Announcement:
    """Follows worker, shelf and engine into the record. `refresh` is cheap and called at every change."""

    def __init__(self, announcer: Announcer, worker: Worker, shelf: Shelf, engine: Engine) -> None:
        self._announcer = announcer
        self._worker, self._shelf, self._engine = worker, shelf, engine

    def refresh(self) -> None:
        """Publish what has changed."""
        record = replace(
            self._announcer.record,
            models=self._shelf.usable_names(),
            resident=self._engine.resident,
            rows_in_use=self._worker.rows_in_use,
            draining=self._worker.draining,
        )
        try:
            self._announcer.publish(record)
        except BadRecord as error:  # the work goes on under the record before
            logger.error("record not published", extra={"cause": error.message})

    async def run(self) -> None:
        """Be announced until cancelled."""
        await self._announcer.run()


def first_record(worker_id: WorkerId, address: str, engine: Engine, shelf: Shelf, clock: Clock) -> WorkerRecord:
    """Return the record of a worker that has just started; its incarnation is new with every start."""
    return WorkerRecord(
        worker_id=worker_id,
        incarnation=uuid.uuid4().hex[:16],
        address=address,
        device=engine.device.id,
        memory_bytes=engine.device.memory_bytes,
        models=shelf.usable_names(),
        resident=engine.resident,
        rows=ROWS,
        rows_in_use=0,
        started_at=clock.now(),
    )


def make_announcer(registry: Registry, record: WorkerRecord, lease_ttl_s: int, clock: Clock) -> Announcer:
    """Return who keeps the record alive under a lease."""
    return Announcer(registry, record, lease_ttl_s=lease_ttl_s, clock=clock)


def reachable_address(listen: str, port: int) -> str:
    """Return host:port under which others reach the listener; a listener on every interface goes by this host's IP."""
    host = listen.rpartition(":")[0]
    if host in _ANY_INTERFACE:
        host = socket.gethostbyname(socket.gethostname())
    return f"{host}:{port}"
