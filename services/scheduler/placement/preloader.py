"""Loads models before their jobs come; preload.py decides. It asks workers what weighs how much, once for each.

A worker that does not answer is left alone for a while; a preload that fails costs nobody anything.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import logging
from collections.abc import Mapping
from dataclasses import replace

from libs import errors
from libs.clients.device_state import ModelPlace
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.ids import WorkerId
from services.scheduler.instruments import Instruments
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.placement import preload
from services.scheduler.placement.fleet import Fleet
from services.scheduler.placement.placement import Seat
from services.scheduler.placement.preload import HORIZON_S, Device, Load, Outlook
from services.scheduler.placement.seats import Incarnation, key_of
from services.scheduler.placement.turns import turns

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
ASKED_AT_ONCE = 16  # workers
LOAD_S = 300.0  # after which a load that never arrived is given up
REST_S = 30.0  # for a worker that did not do as it was asked
_LOOKED_AT = 16  # workers of which one look asks what is next there
_AT_A_TIME = 50  # workers looked at in one turn of the event loop
_GPU_SHARE, _CPU_SHARE = 0.85, 0.5  # of a device's memory that its worker keeps weights in, by its defaults


class Preloader:
    """Looks at queue and fleet while `run` runs."""

    def __init__(self, jobs: OpenJobs, fleet: Fleet, instruments: Instruments, clock: Clock) -> None:
        self._jobs = jobs
        self._fleet = fleet
        self._instruments = instruments
        self._clock = clock
        self._turn = asyncio.Semaphore(ASKED_AT_ONCE)
        self._bytes: dict[Incarnation, dict[str, float]] = {}
        self._idle: dict[WorkerId, tuple[Seat, Device]] = {}  # those that have nothing to do
        self._under_way: dict[Incarnation, tuple[str, float]] = {}  # the model, and until when it is waited for

    async def run(self) -> None:
        """Preload until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        seats = [seat for seat in self._fleet.seats() if seat.stays]
        self._forget([seat.record for seat in seats])
        await asyncio.gather(*(self._weigh(seat.record) for seat in seats if key_of(seat.record) not in self._bytes))
        devices: list[Device] = []
        for number, seat in enumerate(seats):
            if self._bytes.get(key_of(seat.record)):
                devices.append(self._device_of(seat))
            if number % _AT_A_TIME == _AT_A_TIME - 1:
                await asyncio.sleep(0)  # who waits for a row does not wait for this
        outlook = self._outlook(devices)
        if outlook.next_cold:
            devices = self._with_next(devices)
        loads = preload.plan(devices, outlook)
        await asyncio.gather(*(self._load(load) for load in loads))

    def _forget(self, alive: list[WorkerRecord]) -> None:
        """Forget who is gone, and loads that have arrived or never will."""
        records = {key_of(record): record for record in alive}
        self._bytes = {key: held for key, held in self._bytes.items() if key in records}
        self._idle = {name: known for name, known in self._idle.items() if key_of(known[0].record) in records}
        self._under_way = {
            key: (model, until)
            for key, (model, until) in self._under_way.items()
            if key in records and model not in records[key].resident and until > self._clock.now()
        }

    async def _weigh(self, record: WorkerRecord) -> None:
        places: list[ModelPlace] = []
        try:
            async with self._turn:
                places = await self._fleet.server(record).residency()
        except errors.DarkroomError as error:
            self._complain(record, error)
        if places:
            self._bytes[key_of(record)] = {place.pinned: place.weight_bytes for place in places}

    def _device_of(self, seat: Seat) -> Device:
        """Return what a worker is to a plan; of one that has nothing of ours it is the same while its seat is."""
        known = self._idle.get(seat.record.worker_id)
        loading = key_of(seat.record) in self._under_way
        if known is not None and known[0] is seat and known[1].loading == loading:
            return known[1]
        device = self._device(seat)
        if not seat.assigned:
            self._idle[seat.record.worker_id] = seat, device
        return device

    def _device(self, seat: Seat) -> Device:
        record = seat.record
        jobs = [job for job_id in self._fleet.given(record) if (job := self._jobs.get(job_id)) is not None]
        held = sum(self._bytes[key_of(record)].get(model, 0.0) for model in record.resident)
        share = _CPU_SHARE if record.device == "cpu" else _GPU_SHARE
        return Device(
            record=record,
            spare_bytes=share * record.memory_bytes - held,
            free_rows=record.rows - seat.assigned,
            wait_s=0.0 if seat.free else min((job.estimated_units / 2000.0 for job in jobs), default=0.0),
            busy=frozenset(job.model_version for job in jobs),
            pinned=seat.pinned,
            loading=key_of(record) in self._under_way,
        )

    def _with_next(self, devices: list[Device]) -> list[Device]:
        """Return them with what is next at those that are free first, if it must be loaded."""
        now, ordering, found = self._clock.now(), self._jobs.ordering, dict[WorkerId, str]()
        have = {model for device in devices for model in device.record.resident}
        working = [device for device in devices if not device.loading and not device.idle]
        for device in heapq.nsmallest(_LOOKED_AT, working, key=lambda device: device.wait_s):
            waiting = ordering.next(self._fleet.offer_of(device.record), now)
            if waiting is not None and waiting.model_version not in have:
                found[device.record.worker_id] = waiting.model_version
        return [replace(device, next_cold=found.get(device.record.worker_id, "")) for device in devices]

    def _outlook(self, devices: list[Device]) -> Outlook:
        now, popularity, backlog = self._clock.now(), self._jobs.popularity, self._jobs.backlog
        have = {model for device in devices for model in device.record.resident}
        cold = self._jobs.ordering.next(lambda line: None if Shape.of_line(line).model in have else 0.0, now)
        return Outlook(
            queued_s={model: backlog.units(model) / 1000.0 for model in backlog.models()},
            likelihood=lambda model: popularity.likelihood(model, now, HORIZON_S),
            load_s=self._fleet.load_s,
            bytes_of=self._all_bytes(),
            expected=popularity.models(),
            next_cold=cold.model_version if cold else "",
            turns=functools.cache(lambda: turns(self._jobs.ordering, have, now)),
        )

    def _all_bytes(self) -> Mapping[str, float]:
        return {model: weight for held in self._bytes.values() for model, weight in held.items()}

    async def _load(self, load: Load) -> None:
        server, key, now = self._fleet.server(load.worker), key_of(load.worker), self._clock.now()
        self._under_way[key] = load.model, now + REST_S
        fields = {"worker_id": load.worker.worker_id, "model": load.model, "evicted": list(load.evict)}
        try:
            for model in load.evict:
                if not await server.evict(model):
                    self._instruments.preloaded("refused")
                    return
            await server.warm(load.model, "vram")
        except errors.DarkroomError as error:
            self._instruments.preloaded("failed")
            self._complain(load.worker, error)
            return
        self._under_way[key] = load.model, now + LOAD_S
        self._instruments.preloaded("begun")
        logger.info("model preloaded", extra=fields)

    def _complain(self, record: WorkerRecord, error: errors.DarkroomError) -> None:
        extra = {"worker_id": record.worker_id, "cause": error.reason}
        logger.info("a worker did not answer the preloader", extra=extra)
