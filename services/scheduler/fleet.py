"""The workers as the dispatcher uses them: who is alive, what they were given, who rests after a refusal.

The registry says who is alive; when it is gone the last known fleet stays. What a worker was given is counted here
and not taken from its record, which is a second old. Everything is kept by incarnation: a restarted worker is new.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from libs.clients.modelserver import ModelServer
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.ids import JobId, WorkerId
from services.scheduler import placement
from services.scheduler.placement import Obstacle, Seat

logger = logging.getLogger(__name__)

REFUSED_REST_S = 1.0  # it is busy with something we did not count, like the orphan of a lost attempt
LOST_REST_S = 10.0  # its record may outlive it by a lease; a new incarnation is free of it at once

Incarnation = tuple[WorkerId, str]


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
        self._given: dict[Incarnation, set[JobId]] = {}
        self._rests: dict[Incarnation, float] = {}  # until when, in Unix seconds
        self._servers: dict[Incarnation, ModelServer] = {}

    def workers(self) -> Mapping[WorkerId, WorkerRecord]:
        """Return the fleet as last known."""
        return self._directory.workers()

    def free_models(self) -> set[str]:
        """Return the model versions that somebody takes now."""
        return {model for seat in self._seats() if seat.free for model in seat.record.models}

    def free_for(self, model_version: str) -> bool:
        """Return whether somebody takes a job of this model now."""
        return model_version in self.free_models()

    def place(self, model_version: str, avoid: Collection[WorkerId]) -> WorkerRecord | Obstacle:
        """Return the worker that gets a job, or what stands in the way."""
        return placement.choose(model_version, self._seats(), avoid)

    def feasible(self, model_version: str) -> bool:
        """Return whether a living worker can run the model at all."""
        return placement.feasible(model_version, self.workers())

    def able(self, model_version: str) -> int:
        """Return how many rows the workers have together that can run the model."""
        return sum(record.rows for record in self.workers().values() if model_version in record.models)

    def give(self, record: WorkerRecord, job_id: JobId) -> None:
        """Count a job on a worker."""
        self._given.setdefault(_key(record), set()).add(job_id)

    def take_back(self, record: WorkerRecord, job_id: JobId) -> None:
        """Count it no longer."""
        jobs = self._given.get(_key(record), set())
        jobs.discard(job_id)
        if not jobs:
            self._given.pop(_key(record), None)
        self._changed()

    def given(self, record: WorkerRecord) -> tuple[JobId, ...]:
        """Return the jobs a worker was given, by id."""
        return tuple(sorted(self._given.get(_key(record), ())))

    def rest(self, record: WorkerRecord, seconds: float) -> None:
        """Give a worker nothing for a while."""
        self._rests[_key(record)] = self._clock.now() + seconds

    def next_rest_end(self) -> float | None:
        """Return when the next worker has rested."""
        now = self._clock.now()
        return min((end for end in self._rests.values() if end > now), default=None)

    def server(self, record: WorkerRecord) -> ModelServer:
        """Return the connection to a worker."""
        if _key(record) not in self._servers:
            self._servers[_key(record)] = self._connect(record.address)
        return self._servers[_key(record)]

    async def gone(self, record: WorkerRecord) -> None:
        """Wait until this incarnation of a worker is no longer in the fleet."""
        await self._directory.wait_for(lambda: not self._alive(_key(record)))

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
                seen = self.workers()
                await self._forget_the_gone()
                self._changed()
        finally:
            await asyncio.gather(*(server.close() for server in self._servers.values()))

    def _differs_from(self, seen: Mapping[WorkerId, WorkerRecord]) -> bool:
        return self.workers() is not seen  # each snapshot is a mapping of its own

    async def _forget_the_gone(self) -> None:
        for key in [key for key in self._rests if not self._alive(key)]:
            del self._rests[key]
        for key in [key for key in self._servers if not self._alive(key) and key not in self._given]:
            await self._servers.pop(key).close()

    def _alive(self, key: Incarnation) -> bool:
        record = self.workers().get(key[0])
        return record is not None and record.incarnation == key[1]

    def _seats(self) -> list[Seat]:
        now = self._clock.now()
        return [
            Seat(record, len(self._given.get(_key(record), ())), self._rests.get(_key(record), 0.0) > now)
            for record in self.workers().values()
        ]


def _key(record: WorkerRecord) -> Incarnation:
    return record.worker_id, record.incarnation
