"""Parks running jobs for waiting ones of a higher tier, and lets them go on; preemption.py decides.

A parked job stays RUNNING: its attempt is open, its worker holds its state, only its row is another's. When the worker
goes, the attempt is lost as always. Whether a request to park arrived may be unknown; then the worker is asked to go
on with the job until it has answered, which does nothing to a job that was never parked.

The memory of who is parked dies with the leader. The next one asks for every attempt that it takes up again to go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Coroutine
from dataclasses import dataclass, field
from typing import Any

from libs import errors
from libs.backoff import Backoff
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.ids import JobId, WorkerId
from services.scheduler.attempts.outcome import Attempt
from services.scheduler.instruments import Instruments
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.order.ordering import TIERS, Offer, Waiting
from services.scheduler.order.shares import rank
from services.scheduler.placement import preemption
from services.scheduler.placement.fleet import Fleet
from services.scheduler.placement.placement import Seat
from services.scheduler.placement.preemption import PARKED_S, Parked, Running
from services.scheduler.placement.rounds import Looks, Rounds
from services.scheduler.placement.seats import key_of

logger = logging.getLogger(__name__)

REFUSED_S = 1.0  # for which a job that could not be parked is not asked again


@dataclass(slots=True)
class _Entry:
    attempt: Attempt
    moving: bool = False  # a request to park it or to go on is under way
    parked_at: float | None = None
    since: float | None = None  # when it went on last
    parks: int = 0
    not_before: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Preempter:
    """Knows the attempts that run. Its requests run as tasks of the group it is given."""

    def __init__(self, jobs: OpenJobs, fleet: Fleet, instruments: Instruments, clock: Clock) -> None:
        self._jobs = jobs
        self._fleet = fleet
        self._instruments = instruments
        self._clock = clock
        self._entries: dict[JobId, _Entry] = {}
        self._touched: dict[JobId, _Entry] = {}  # of them, those that were ever asked to make room: few
        self._by_tier: Counter[str] = Counter()  # of them, how many; none is 0
        self._rounds, self._looks = Rounds(), Looks()
        self._tasks: set[asyncio.Task[None]] = set()

    def began(self, attempt: Attempt) -> None:
        """Follow an attempt; one that is taken up from an earlier leader may be parked since then."""
        self._forget(attempt.job.id)
        entry = self._entries[attempt.job.id] = _Entry(attempt)
        self._by_tier[attempt.job.tier] += 1
        if attempt.attach:
            self._touched[attempt.job.id] = entry
            entry.moving = True
            self._start(self._bring_back(entry))

    def over(self, attempt: Attempt) -> None:
        """Follow an attempt no longer; the next one at its job may have begun before its worker was told to stop."""
        entry = self._entries.get(attempt.job.id)
        if entry is not None and entry.attempt is attempt:
            self._forget(attempt.job.id)

    def parked(self) -> list[JobId]:
        """Return the jobs that are parked."""
        entries = tuple(self._entries.items())  # a metric asks on the exporter's thread
        return [job_id for job_id, entry in entries if entry.parked_at is not None]

    def rival(self) -> tuple[Waiting, WorkerRecord] | None:
        """Let parked jobs go on whose row is free; return a waiting job that goes before one of them, and its worker."""
        now = self._clock.now()
        for known in self._rounds.each(self._parked_by_worker, now):
            parked = [job for job in known if self._rests(job.job_id)]
            seat = self._fleet.seat(parked[0].worker) if parked else None
            if seat is None or seat.resting:
                continue
            rival = self._jobs.ordering.next(self._fleet.offer_of(seat.record), now)
            rival = None if rival and _shuns(rival, seat.record, self._jobs, self._fleet) else rival
            again = preemption.goes_on(parked, seat, rival.tier if rival else None, now)
            if again is not None:
                self._resume(self._entries[again.job_id], late=now - again.since >= PARKED_S)
            elif rival is not None and _gets_the_rows(rival, seat, parked):
                return rival, seat.record
        return None

    def make_room(self) -> None:
        """Ask workers to park jobs for those of higher tiers that wait. Call it when no row is free for anybody."""
        if not len(self._jobs.ordering) or not self._lower_than_waits():
            return
        if self._looks.wait(len(self._entries), self._clock.now()):
            return
        candidates = self._candidates(self._entries)
        if not candidates:
            return
        workers = {job.worker.worker_id: job.worker for job in candidates}
        waiting = self._jobs.ordering.next(_cost_at(list(workers.values()), self._fleet), self._clock.now())
        while waiting is not None and self._moving() < self._jobs.ordering.depth(waiting.tier):
            able = [job for job in candidates if not _shuns(waiting, job.worker, self._jobs, self._fleet)]
            victim = preemption.victim(waiting, able)
            if victim is None:
                return
            candidates.remove(victim)
            self._make_room(victim.job_id)

    def make_room_ahead(self, waiting: Waiting, worker: WorkerRecord) -> None:
        """Have jobs of lower tiers make room where one is about to be given ahead of its rows, since one of them ends."""
        seat = self._fleet.seat(worker)
        if seat is None or not seat.ending or seat.has_rows_for(Shape.of_line(waiting.line)):
            return
        if any(rank(tier) > rank(waiting.tier) for tier in self._by_tier):
            there = [job for job in self._candidates(self._fleet.given(worker)) if key_of(job.worker) == key_of(worker)]
            for victim in preemption.victims(waiting, seat, there):
                self._make_room(victim.job_id)

    def next_moment(self) -> float | None:
        """Return when the next parked job has waited for too long, or one that could not be parked is asked again."""
        entries = [entry for entry in self._touched.values() if not entry.moving]
        moments = [entry.parked_at + PARKED_S for entry in entries if entry.parked_at is not None]
        moments += [entry.not_before for entry in entries]
        later = self._looks.next_moment(), self._rounds.next_moment()
        moments += [moment for moment in later if moment is not None]
        return min((moment for moment in moments if moment > self._clock.now()), default=None)

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, job_id: JobId) -> None:
        entry = self._entries.pop(job_id, None)
        self._touched.pop(job_id, None)
        if entry is not None:
            self._by_tier -= Counter((entry.attempt.job.tier,))
            entry.over.set()

    def _lower_than_waits(self) -> bool:
        """Whether anything runs that is of a lower tier than a job that waits."""
        highest = min((rank(tier) for tier in TIERS if self._jobs.ordering.depth(tier)), default=len(TIERS))
        return any(rank(tier) > highest for tier in self._by_tier)

    def _make_room(self, job_id: JobId) -> None:
        entry = self._touched[job_id] = self._entries[job_id]
        entry.moving = True
        self._start(self._park(entry))

    def _candidates(self, among: Collection[JobId]) -> list[Running]:
        """Return those of some jobs that could make room."""
        now, found = self._clock.now(), list[Running]()
        for job_id in among:
            entry = self._entries.get(job_id)
            if entry is None:
                continue
            worker, run = entry.attempt.worker, entry.attempt.run
            if entry.moving or entry.parked_at is not None or entry.not_before > now or run.begun_at is None:
                continue
            since = entry.attempt.began_at if entry.since is None else entry.since
            seat = self._fleet.seat(worker)
            if seat is not None and preemption.may_park(entry.parks, seat):
                job = entry.attempt.job
                found.append(Running(job_id, job.tier, seat, since, job.shape.rows))
        return found

    def _parked_by_worker(self) -> dict[WorkerId, list[Parked]]:
        found: dict[WorkerId, list[Parked]] = {}
        for job_id, entry in self._touched.items():
            if entry.parked_at is not None and self._rests(job_id):
                worker = entry.attempt.worker
                job = entry.attempt.job
                parked = Parked(job_id, job.tier, worker, entry.parked_at, job.shape)
                found.setdefault(worker.worker_id, []).append(parked)
        return found

    def _rests(self, job_id: JobId) -> bool:
        """Whether a job is parked and could be asked to go on."""
        entry = self._touched.get(job_id)
        if entry is None or entry.parked_at is None or entry.moving:
            return False
        return entry.not_before <= self._clock.now()

    def _moving(self) -> int:
        return sum(entry.moving for entry in self._touched.values())

    async def _park(self, entry: _Entry) -> None:
        attempt = entry.attempt
        try:
            parked = await attempt.server.park(attempt.job.id, attempt.job.attempt, attempt.epoch)
        except errors.DarkroomError as error:
            logger.info("a worker could not be asked to park", extra=_fields(entry) | {"cause": error.reason})
            await self._bring_back(entry)
            return
        entry.moving = False
        if entry.over.is_set():
            return
        self._instruments.preemption("parked" if parked else "refused")
        if parked:
            now = self._clock.now()
            entry.parked_at, entry.parks = now, entry.parks + 1
            attempt.run.pause(now)
            logger.info("attempt parked", extra=_fields(entry))
            self._fleet.park(attempt.worker, attempt.job.id)
        else:
            entry.not_before = self._clock.now() + REFUSED_S
            self._jobs.work.ring()

    def _resume(self, entry: _Entry, *, late: bool) -> None:
        entry.moving = True
        self._instruments.preemption("overdue" if late else "resumed")
        self._fleet.give(entry.attempt.worker, entry.attempt.job.id, entry.attempt.job.shape)
        self._start(self._bring_back(entry))

    async def _bring_back(self, entry: _Entry) -> None:
        """Have a job go on, until the worker has answered or the attempt is over."""
        attempt, backoff = entry.attempt, Backoff()
        while not entry.over.is_set():
            try:
                found = await attempt.server.resume(attempt.job.id, attempt.job.attempt, attempt.epoch)
                break
            except errors.DarkroomError as error:
                logger.info("a worker could not be asked to go on", extra=_fields(entry) | {"cause": error.reason})
                await self._clock.sleep(backoff.next_s())
        if entry.over.is_set():
            return
        now = self._clock.now()
        entry.moving, entry.parked_at, entry.since = False, None, now
        attempt.run.go_on(now)
        self._jobs.work.ring()
        logger.info("attempt goes on", extra=_fields(entry) | {"was_parked": found})

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _cost_at(workers: list[WorkerRecord], fleet: Fleet) -> Offer:
    offers = [fleet.offer_of(worker) for worker in workers]

    def cost(model_version: str) -> float | None:
        costs = [units for offer in offers if (units := offer(model_version)) is not None]
        return min(costs, default=None)

    return cost


def _shuns(waiting: Waiting, worker: WorkerRecord, jobs: OpenJobs, fleet: Fleet) -> bool:
    """Whether a job comes last to a worker, where others draw or are parked, and another can draw it."""
    shunned = jobs.avoided(waiting.job_id)
    if jobs.alone(waiting.job_id):
        shunned |= {worker.worker_id}
    if worker.worker_id not in shunned:
        return False
    others = (other for other in fleet.workers().values() if other.worker_id not in shunned)
    return any(waiting.model_version in other.models for other in others)


def _gets_the_rows(rival: Waiting, seat: Seat, parked: list[Parked]) -> bool:
    fits = seat.stays and not seat.resting and seat.has_rows_for(Shape.of_line(rival.line))
    return fits and preemption.goes_before(parked, rival.tier)


def _fields(entry: _Entry) -> dict[str, object]:
    attempt = entry.attempt
    return {
        "job_id": attempt.job.id,
        "tenant_id": attempt.job.tenant_id,
        "worker_id": attempt.worker.worker_id,
        "attempt": attempt.job.attempt,
    }
