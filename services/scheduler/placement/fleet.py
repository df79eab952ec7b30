"""The workers as the dispatcher uses them: who is alive, what they were given, who rests after a refusal.

The registry says who is alive; when it is gone the last known fleet stays. What a worker was given is counted here
(seats.py) and not taken from its record, which is a second old.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from libs.alarm import first
from libs.clients.modelserver import ModelServer
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.generation.attempt import StageDone
from libs.ids import JobId, WorkerId
from services.scheduler.operators.operations import Wishes
from services.scheduler.placement import placement
from services.scheduler.placement.abilities import Abilities
from services.scheduler.placement.departures import Departures
from services.scheduler.placement.placement import PREFETCH_S, Obstacle, Seat
from services.scheduler.placement.seats import Incarnation, Seats, is_alive, key_of

logger = logging.getLogger(__name__)

REFUSED_REST_S = 1.0  # it is busy with something we did not count, like the orphan of a lost attempt
RETURN_S = 5.0  # for a living worker to be in the fleet again: its backoff, its new lease, its record
LOST_REST_S = 10.0  # its record may outlive it by a lease; a new incarnation is free of it at once


class Directory(Protocol):
    """What is taken from libs.fleet.directory."""

    def workers(self) -> Mapping[WorkerId, WorkerRecord]:
        """Return the fleet as last known."""
        ...

    async def wait_for(self, wanted: Callable[[], bool]) -> None:
        """Wait until something holds that depends on the fleet."""
        ...


class Fleet:
    """Workers with their seats and connections."""

    def __init__(
        self, directory: Directory, connect: Callable[[str], ModelServer], clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._directory = directory
        self._connect = connect
        self._clock = clock
        self._changed = changed
        self._book = Seats()
        self._followed: Mapping[WorkerId, WorkerRecord] = {}
        self._counted: tuple[Mapping[WorkerId, WorkerRecord], Abilities] = ({}, Abilities())
        self._servers: dict[Incarnation, ModelServer] = {}
        self._departures = Departures()

    def workers(self) -> Mapping[WorkerId, WorkerRecord]:
        """Return the fleet as last known."""
        return self._directory.workers()

    def seats(self) -> Collection[Seat]:
        """Return the workers with what they were given, as of now."""
        return self._seats.all()

    def seat(self, record: WorkerRecord) -> Seat | None:
        """Return what a worker was given, with its latest record; None when this incarnation is gone."""
        seat = self._seats.of(record.worker_id)
        return seat if seat is not None and key_of(seat.record) == key_of(record) else None

    def wish(self, wishes: Wishes) -> None:
        """Follow an operator's wishes from now on; told again after each change."""
        self._seats.wish(wishes, self._clock.now())
        self._changed()

    def free_models(self) -> set[str]:
        """Return the model versions that somebody takes now."""
        return self._seats.models()

    def free_for(self, model_version: str) -> bool:
        """Return whether somebody takes a job of this model now."""
        return self.offer(model_version) is not None

    def offer(self, line: str) -> float | None:
        """Return the units of loading that placing a job of this line now would cost; None when nobody takes it."""
        return self.offers()(line)

    def offers(self) -> Callable[[str], float | None]:
        """Return `offer` for as long as nothing changes: many lines are asked about at once."""
        seats = self._seats

        def offer(line: str) -> float | None:
            seconds = seats.offer_s(line)
            return None if seconds is None else seconds * 1000.0

        return offer

    def offer_of(self, record: WorkerRecord) -> Callable[[str], float | None]:
        """Return the same question to one worker, whether it has a free row or not."""

        def offer(line: str) -> float | None:
            model = Shape.of_line(line).model
            return self.load_s(model, record) * 1000.0 if model in record.models else None

        return offer

    def load_s(self, model_version: str, record: WorkerRecord) -> float:
        """Return about how many seconds a worker needs to have a model on its device."""
        return self._book.loads.seconds(model_version, placement.place_of(model_version, record))

    def place(self, line: str, avoid: Collection[WorkerId], needed: Collection[str] = ()) -> WorkerRecord | Obstacle:
        """Return the worker that gets a job of a line, or what stands in the way; jobs wait for the models `needed`."""
        return self._seats.choose(line, avoid, needed)

    @property
    def can(self) -> Abilities:
        """What the fleet as it is now can draw."""
        records = self.workers()
        if records is not self._counted[0]:
            self._counted = records, Abilities(records.values())
        return self._counted[1]

    def busy(self) -> frozenset[WorkerId]:
        """Return the workers that were given something."""
        return frozenset(seat.record.worker_id for seat in self._seats.all() if seat.assigned)

    def give(self, record: WorkerRecord, job_id: JobId, shape: Shape, *, alone: bool = False) -> None:
        """Count a job on a worker; `alone`, nothing more is given to it meanwhile."""
        self._seats.give(record, job_id, self._clock.now(), shape=shape, alone=alone)

    def expect(self, worker_id: WorkerId, job_id: JobId, shape: Shape) -> None:
        """Count a job on a worker of which only the name is known, until `expect_no_more`."""
        self._seats.expect(worker_id, job_id, self._clock.now(), shape)

    def expect_no_more(self, worker_id: WorkerId, job_id: JobId) -> None:
        """Count it no longer by the name."""
        self._seats.expect_no_more(worker_id, job_id, self._clock.now())
        self._changed()

    def take_back(self, record: WorkerRecord, job_id: JobId) -> None:
        """Count it no longer."""
        self._seats.take_back(record, job_id, self._clock.now())
        self._changed()

    def park(self, record: WorkerRecord, job_id: JobId) -> None:
        """Count a job as parked on a worker until it is given again or taken back."""
        self._seats.park(record, job_id, self._clock.now())
        self._changed()

    def given(self, record: WorkerRecord) -> tuple[JobId, ...]:
        """Return the jobs a worker was given, by id."""
        return self._book.given(record)

    def expect_end(self, record: WorkerRecord, job_id: JobId, eta_s: float) -> None:
        """Take in how long a job still runs: shortly before its end the worker takes the next one."""
        if eta_s <= PREFETCH_S and self._seats.ends_soon(record, job_id, self._clock.now()):
            self._changed()

    def learn_loads(self, record: WorkerRecord, model_version: str, stages: Sequence[StageDone]) -> None:
        """Take in how long loads took; `record` is that of before the attempt."""
        self._book.loads.note_stages(model_version, placement.place_of(model_version, record), stages)

    def rest(self, record: WorkerRecord, seconds: float) -> None:
        """Give a worker nothing for a while."""
        now = self._clock.now()
        self._seats.rest(record, now + seconds, now)

    def keep_apart(self, worker: Incarnation, until: float) -> None:
        """Give a worker nothing until a moment in Unix seconds, then one job at a time until it is taken in."""
        self._seats.keep_apart(worker, until, self._clock.now())

    def take_in(self, worker: Incarnation) -> None:
        """Give a worker jobs like others."""
        self._seats.take_in(worker, self._clock.now())
        self._changed()

    def next_rest_end(self) -> float | None:
        """Return when the next worker has rested."""
        return self._book.next_rest_end(self._clock.now())

    def server(self, record: WorkerRecord) -> ModelServer:
        """Return the connection to a worker."""
        if key_of(record) not in self._servers:
            self._servers[key_of(record)] = self._connect(record.address)
        return self._servers[key_of(record)]

    async def gone(self, record: WorkerRecord) -> None:
        """Wait until this incarnation of a worker is gone for RETURN_S, or another has its place; `run` must be running.

        An etcd that stood still for longer than leases last lets them all expire in its first moment, before anybody
        can hold a new one: the whole fleet is gone then, and back a moment later, drawing what it drew.
        """
        away = False
        while not away:
            if self._alive(key_of(record)):
                await self._departures.wait(key_of(record))
            await first(self.appeared(record.worker_id), self._clock.sleep(RETURN_S))
            away = not self._alive(key_of(record))

    async def appeared(self, worker_id: WorkerId) -> WorkerRecord:
        """Wait until a worker is in the fleet and return its record."""
        await self._directory.wait_for(lambda: worker_id in self.workers())
        return self.workers()[worker_id]

    async def run(self) -> None:
        """Follow the fleet until cancelled, then give the connections back."""
        seen = self.workers()
        try:
            while True:
                await self._directory.wait_for(functools.partial(self._differs_from, seen))
                before, seen = seen, self.workers()
                self._departures.tell(self._alive)
                if len(self._servers) > len(seen) or _somebody_left(before, seen):
                    await self._forget_the_gone()
                self._changed()
        finally:
            await asyncio.gather(*(server.close() for server in self._servers.values()))

    @property
    def _seats(self) -> Seats:
        """The seats of the fleet as it is now."""
        now, records = self._clock.now(), self.workers()
        if records is not self._followed:
            self._followed = records
            self._book.follow(records, now)
        self._book.wake(now)
        return self._book

    def _differs_from(self, seen: Mapping[WorkerId, WorkerRecord]) -> bool:
        return self.workers() is not seen  # each snapshot is a mapping of its own

    async def _forget_the_gone(self) -> None:
        for key in tuple(self._servers):
            if not self._alive(key) and not self._book.holds_any(key):  # still, after others were closed
                await self._servers.pop(key).close()

    def _alive(self, key: Incarnation) -> bool:
        return is_alive(key, self.workers())


def _somebody_left(before: Mapping[WorkerId, WorkerRecord], now: Mapping[WorkerId, WorkerRecord]) -> bool:
    """Return whether one is gone or began anew; most changes of a large fleet are of what its workers are doing."""
    return any(
        (after := now.get(worker_id)) is not record and (after is None or after.incarnation != record.incarnation)
        for worker_id, record in before.items()
    )
