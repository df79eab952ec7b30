"""What this worker says of itself to the schedulers, kept current in the registry."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from libs.clock import Clock, SystemClock
from libs.coordination.registry import Registry
from libs.fleet.announce import Announcer
from libs.fleet.record import BadRecord, WorkerRecord
from libs.ids import WorkerId
from services.modelserver.acceptance import told_rows
from services.modelserver.device_thread import DeviceThread
from services.modelserver.engine.protocol import Engine, Tier
from services.modelserver.gpu import Gpu, Reading
from services.modelserver.shelf import Shelf

logger = logging.getLogger(__name__)

BUILD_EVERY_S = 1.0  # how often it is looked whether what is drawn or allowed has changed
READ_EVERY_S = 5.0  # how often the GPU's readings go into the record
_MEMORY_STEP = 64 * 2**20  # bytes; finer changes are not worth a write


class Crew(Protocol):
    """The part of the worker that its record tells of."""

    slots: int  # bound on attempts that draw at once; 0: as many as their rows allow
    device: DeviceThread

    @property
    def held(self) -> int:
        """Return how many attempts draw, wait to draw or are parked."""
        ...

    @property
    def rows(self) -> int:
        """Return how many attempts may draw at once."""
        ...

    @property
    def rows_in_use(self) -> int:
        """Return how many attempts draw at once now."""
        ...

    @property
    def draining(self) -> bool:
        """Return whether it takes nothing new."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the rest of the record comes from: the GPU (none on a CPU), the version of the batch table, the build."""

    gpu: Gpu | None = None
    table_version: Callable[[], int] = lambda: 0
    clock: Clock = field(default_factory=SystemClock)
    build: Callable[[], str] = lambda: ""


class Announcement:
    """Follows worker, shelf and engine into the record. `refresh` is cheap and called at every change."""

    def __init__(
        self,
        announcer: Announcer,
        worker: Crew,
        shelf: Shelf,
        engine: Engine,
        sources: Sources | None = None,
    ) -> None:
        self._announcer = announcer
        self._worker, self._shelf, self._engine = worker, shelf, engine
        self._sources = sources or Sources()
        self._reading = Reading()

    def refresh(self) -> None:
        """Publish what has changed."""
        tiers, rows, load = self._engine.residency(), self._worker.rows, self._worker.device.load
        record = replace(
            self._announcer.record,
            models=self._shelf.usable_names(),
            resident=_resident(tiers),
            rows=rows,
            rows_in_use=self._worker.rows_in_use,
            draining=self._worker.draining,
            residency=tuple((pinned, tier.value) for pinned, tier in tiers.items() if tier is not Tier.DISK),
            load_share=round(self._worker.held / max(1, rows), 2),
            step_table_version=self._sources.table_version(),
            engine_build=self._sources.build(),
            memory_free_bytes=_in_steps(load.free_bytes),
            model_rows=() if self._worker.slots else told_rows(load),
            **_told(self._reading),
        )
        try:
            self._publish(record)
        except BadRecord as error:  # the work goes on under the record before
            logger.error("record not published", extra={"cause": error.message})

    async def run(self) -> None:
        """Be announced until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announcer.run())
            tasks.create_task(self._follow_build())
            if self._sources.gpu is not None:
                tasks.create_task(self._follow(self._sources.gpu))

    def _publish(self, record: WorkerRecord) -> None:
        try:
            self._announcer.publish(record)
        except BadRecord:  # where models lie and what was measured is the part that can be done without
            self._announcer.publish(replace(record, residency=(), model_rows=()))

    async def _follow_build(self) -> None:
        """Publish a build soon after it has changed: results from before are given to nobody then."""
        while True:
            await self._sources.clock.sleep(BUILD_EVERY_S)
            if self._sources.build() != self._announcer.record.engine_build:
                self.refresh()

    async def _follow(self, gpu: Gpu) -> None:
        while True:
            try:
                self._reading = await asyncio.to_thread(gpu.read)
            except Exception:  # owns this loop; without readings the worker works as well
                logger.exception("GPU not read")
                self._reading = Reading()
            self.refresh()
            await self._sources.clock.sleep(READ_EVERY_S)


def first_record(
    worker_id: WorkerId, address: str, engine: Engine, shelf: Shelf, clock: Clock, build: str = ""
) -> WorkerRecord:
    """Return the record of a worker that has just started; its incarnation is new with every start."""
    return WorkerRecord(
        worker_id=worker_id,
        incarnation=uuid.uuid4().hex[:16],
        address=address,
        device=engine.device.id,
        memory_bytes=engine.device.memory_bytes,
        models=shelf.usable_names(),
        resident=_resident(engine.residency()),
        rows=1,
        rows_in_use=0,
        started_at=clock.now(),
        engine_build=build,
        device_name=engine.device.kind,
    )


def make_announcer(registry: Registry, record: WorkerRecord, lease_ttl_s: int, clock: Clock) -> Announcer:
    """Return who keeps the record alive under a lease."""
    return Announcer(registry, record, lease_ttl_s=lease_ttl_s, clock=clock)


def _resident(tiers: Mapping[str, Tier]) -> tuple[str, ...]:
    return tuple(pinned for pinned, tier in tiers.items() if tier is Tier.VRAM)


def _in_steps(memory: int | None) -> int | None:
    return None if memory is None else memory // _MEMORY_STEP * _MEMORY_STEP


def _told(reading: Reading) -> dict[str, Any]:
    """Return a reading as fields of the record, rounded so that noise alone writes nothing."""
    power = reading.power_watts
    return {
        "utilisation_ratio": reading.utilisation_ratio,
        "memory_used_bytes": _in_steps(reading.memory_used_bytes),
        "temperature_celsius": reading.temperature_celsius,
        "power_watts": None if power is None else float(round(power, -1)),
        "throttle": reading.throttle,
    }
