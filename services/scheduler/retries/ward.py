"""Takes workers out of use that fail whatever they are given, tells operators, and remembers it over restarts."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping

from opentelemetry.metrics import CallbackOptions, Observation

from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.ids import JobId, WorkerId
from libs.telemetry import metrics
from services.scheduler.attempts.outcome import Attempt, Close, Done
from services.scheduler.job import Job
from services.scheduler.placement.fleet import Fleet
from services.scheduler.placement.seats import Incarnation, is_alive, key_of
from services.scheduler.replicas.lead import Lead
from services.scheduler.retries.quarantine import Quarantine
from services.scheduler.retries.retry import Fault, Mishap
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore, StoreUnavailable

logger = logging.getLogger(__name__)

DOCUMENT = "quarantine"
_BLAMED = frozenset({Fault.TRANSIENT, Fault.WORKER_LOST})  # memory is a matter of size, a model of its files


class _Living(Collection[Incarnation]):
    """Who is alive, as incarnations. Asked at every end of an attempt, and hardly ever about more than one of them."""

    def __init__(self, workers: Mapping[WorkerId, WorkerRecord]) -> None:
        self._workers = workers

    def __len__(self) -> int:
        return len(self._workers)

    def __iter__(self) -> Iterator[Incarnation]:
        return map(key_of, self._workers.values())

    def __contains__(self, worker: object) -> bool:
        return isinstance(worker, tuple) and is_alive(worker, self._workers)


class Ward:
    """Hears how attempts end and holds the fleet to what follows."""

    def __init__(self, store: JobStore, fleet: Fleet, clock: Clock, lead: Lead) -> None:
        self._store = store
        self._fleet = fleet
        self._clock = clock
        self._lead = lead
        self._quarantine = Quarantine()
        self._told: frozenset[Incarnation] = frozenset()

    def observe(self) -> None:
        """Show the number of workers that are kept apart as a gauge."""
        told = "Workers that failed several jobs in a row and get none, or one at a time, for a while"
        metrics.meter().create_observable_gauge("darkroom_workers_quarantined", [self._count], description=told)

    async def load(self) -> None:
        """Take up who was kept apart."""
        document = await persistently(self._clock, lambda: self._store.load_document(DOCUMENT))
        if document is not None:
            self._quarantine.restore(document)
        for worker, kept in self._quarantine.kept.items():
            self._fleet.keep_apart(worker, kept.until)
        self._told = frozenset(self._quarantine.kept)

    def until(self, worker: WorkerRecord) -> float | None:
        """Return until when a worker is kept apart, in Unix seconds; past: it is on trial; None: it is in use."""
        kept = self._quarantine.kept.get(key_of(worker))
        return kept.until if kept else None

    async def attempt_over(self, attempt: Attempt, close: Close) -> bool:
        """Take in how an attempt ended. Returns whether its worker is at fault."""
        worker, job_id, now = key_of(attempt.worker), attempt.job.id, self._clock.now()
        at_fault = False
        if isinstance(close, Done):
            self._quarantine.succeeded(worker, job_id, now, self._alive())
        elif isinstance(close, Mishap) and close.fault in _BLAMED and not attempt.stop.is_set():
            at_fault = self._quarantine.failed(worker, job_id, now, self._alive())
        await self._hold(worker)
        return at_fault

    def refunds(self, job_id: JobId) -> int:
        """Return how many attempts at a job failed on workers that are kept apart now."""
        return self._quarantine.refunds(job_id)

    def no_roomier(self, worker: WorkerRecord) -> list[WorkerId]:
        """Return the workers that come after others for a job that did not fit on this one.

        Those with no more memory, when there are some with more; else those with less.
        """
        others, memory = self._fleet.workers().values(), worker.memory_bytes
        most = memory if any(other.memory_bytes > memory for other in others) else memory - 1
        return [other.worker_id for other in others if other.memory_bytes <= most]

    def job_ended(self, job: Job) -> None:
        """A job is open no more."""
        self._quarantine.over(job.id)

    async def _hold(self, worker: Incarnation) -> None:
        """Have the fleet follow, and write down, what has changed."""
        alive = self._alive()
        if worker in alive:
            self._quarantine.forget_others(alive)
        kept = self._quarantine.kept
        news = frozenset(kept) ^ self._told
        for other, one in kept.items():
            self._fleet.keep_apart(other, one.until)
        for other in self._told - kept.keys():
            self._fleet.take_in(other)
        self._told = frozenset(kept)
        for name, incarnation in news:
            extra = {"worker_id": name, "incarnation": incarnation}
            logger.warning("quarantine " + ("began" if (name, incarnation) in kept else "ended"), extra=extra)
        if news or worker in kept:
            await self._save()

    async def _save(self) -> None:
        try:
            await self._store.save_document(DOCUMENT, self._quarantine.to_document(), self._lead.epoch)
        except StoreUnavailable as error:  # it is found out again
            logger.warning("who is in quarantine was not written down", extra={"cause": str(error)})

    def _alive(self) -> Collection[Incarnation]:
        return _Living(self._fleet.workers())

    def _count(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(len(self._told), {})]
