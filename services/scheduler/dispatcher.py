"""MAIN PATH: the next job → a worker for it → its attempt is committed → it runs there.

Wakes when a job came, when the fleet changed, when a retry or a rested worker is due. A job that is chosen leaves the
order and takes its row at once; its attempt is committed beside those of others (what comes together is one commit),
and runs in a task of its own (attempts.runner). While a commit has no answer nothing more is chosen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.ids import JobId, WorkerId
from services.scheduler.attempts import checkpoints, spans
from services.scheduler.attempts.outcome import Attempt
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.attempts.runner import AttemptRunner
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.order.ordering import Waiting
from services.scheduler.placement.fleet import Fleet
from services.scheduler.placement.held import held
from services.scheduler.placement.placement import Obstacle
from services.scheduler.placement.preempter import Preempter
from services.scheduler.retries.retry import times_out_of_memory
from services.scheduler.storage.store import JobStore, StoreUnavailable
from services.scheduler.storage.wishes import Start

logger = logging.getLogger(__name__)


class Dispatcher:
    """Hands waiting jobs to workers while `run` runs."""

    def __init__(
        self,
        store: JobStore,
        jobs: OpenJobs,
        fleet: Fleet,
        runner: AttemptRunner,
        reconciler: Reconciler,
        preempter: Preempter,
        clock: Clock,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._fleet = fleet
        self._runner = runner
        self._reconciler = reconciler
        self._preempter = preempter
        self._clock = clock
        self.key_of: Callable[[Job], str] = lambda job: job.cache_key  # of the pictures of a job that begins now
        self._seen: Mapping[WorkerId, WorkerRecord] | None = None  # the fleet by which it was judged who can wait
        self._beginning: set[JobId] = set()  # chosen; not committed yet, or not put back
        self._in_doubt = 0  # of them, those whose commit has not been answered

    async def run(self) -> None:
        """Dispatch until cancelled. Attempts that run then are left open: the next start takes them back."""
        try:
            async with asyncio.TaskGroup() as attempts:
                while True:
                    if self._dispatch_next(attempts):
                        await asyncio.sleep(0)  # what was chosen begins, and others have their turn
                    else:
                        await self._jobs.work.wait(self._next_moment())
        finally:
            await self._preempter.close()

    def _dispatch_next(self, attempts: asyncio.TaskGroup) -> bool:
        """Choose a job and have it begin; False when there is nobody for anybody."""
        self._jobs.ordering.wake(self._clock.now())
        self._judge()
        if self._in_doubt:
            return False
        found = self._preempter.rival() or self._next()
        job = self._jobs.get(found[0].job_id) if found else None
        if found is None or job is None:
            self._preempter.make_room()
            return False
        if job.id in self._beginning:  # somebody put it back who did not know; its begin tells what became of it
            self._jobs.ordering.remove(job.id)
            return True
        self._preempter.make_room_ahead(*found)
        self._jobs.chosen(job.id)
        self._fleet.give(found[1], job.id, job.shape, alone=self._jobs.alone(job.id))
        self._beginning.add(job.id)
        self._jobs.beginning.add(job.id)
        attempts.create_task(self._begin_and_run(job, found[1]))
        return True

    async def _begin_and_run(self, job: Job, record: WorkerRecord) -> None:
        try:
            attempt = await self._begin_or_put_back(job, record)
            if attempt is not None:
                await self._runner.run(attempt)
        finally:
            self._fleet.take_back(record, job.id)

    async def _begin_or_put_back(self, job: Job, record: WorkerRecord) -> Attempt | None:
        try:
            attempt = await self._begin(job, record)
        except StoreUnavailable as error:
            logger.warning("an attempt could not be committed", extra={"job_id": job.id, "cause": str(error)})
            await self._put_back_when_known(job)
            self._reconciler.doubt(job.id)  # it may still be committed, after that look
            return None
        else:
            if attempt is None:  # it was cancelled meanwhile
                await self._put_back(job)
            return attempt
        finally:  # not when its attempt is over: the next one may have been chosen by then
            self._jobs.beginning.discard(job.id)
            self._beginning.discard(job.id)

    async def _put_back_when_known(self, job: Job) -> None:
        """Wait for the database to say what became of a job; until then it would say nothing about others."""
        self._in_doubt += 1
        try:
            await self._put_back(job)
        finally:
            self._in_doubt -= 1
            self._jobs.work.ring()

    async def _put_back(self, job: Job) -> None:
        """Have a job wait again, if it does; it counts as beginning until that is known."""
        self._jobs.beginning.discard(job.id)
        self._jobs.ordering.settled(job.id, 0.0)
        await self._reconciler.resolve(job.id)

    def _next(self) -> tuple[Waiting, WorkerRecord] | None:
        """Return the next job and its worker; None when there is nobody for anybody."""
        now, offers = self._clock.now(), self._fleet.offers()
        waiting = self._jobs.ordering.next(offers, now)
        if waiting is None:
            return None
        avoid, needed = self._jobs.avoided(waiting.job_id), self._jobs.backlog.models()
        if self._jobs.alone(waiting.job_id):
            avoid |= self._fleet.busy()
        record = self._fleet.place(waiting.line, avoid, needed)
        if isinstance(record, Obstacle):
            return None
        first = held(self._jobs.ordering, waiting, record, (offers, self._fleet.offer_of(record)), now)
        return (waiting if record.worker_id in self._jobs.avoided(first.job_id) else first), record

    async def _begin(self, job: Job, record: WorkerRecord) -> Attempt | None:
        """Commit the job's next attempt; None when the job does not wait any more."""
        earlier = await self._store.attempts(job.id) if job.attempt else []
        span, traceparent = spans.begin_attempt(job, record.worker_id, earlier)
        earlier = earlier[job.fresh_after :]
        number, now, epoch = job.attempt + 1, self._clock.now(), self._reconciler.epoch
        start = Start(job.id, number, record.worker_id, epoch, now, traceparent, self.key_of(job))
        started = await self._store.start(start)
        if started is None:
            return None
        stop = self._jobs.stop_signal(job.id)
        self._jobs.started(started, record, now)
        spans.record_queue(started, now)
        resume_from = checkpoints.resume_from(earlier)
        extra = {"job_id": job.id, "tenant_id": job.tenant_id, "worker_id": record.worker_id, "attempt": number}
        logger.info("attempt started", extra=extra | {"resume_from": resume_from})
        out_of_memory = times_out_of_memory(earlier)
        server = self._fleet.server(record)
        return Attempt(started, record, server, epoch, stop, span, now, out_of_memory, resume_from)

    def _judge(self) -> None:
        """Have jobs wait apart whose models nobody alive can run."""
        workers, seen = self._fleet.workers(), self._seen
        self._jobs.ordering.judge(self._why_never, anew=workers is not seen)
        self._seen = workers

    def _why_never(self, line: str) -> str | None:
        """Return why nobody alive can run the jobs of a line; None when somebody can, be they busy."""
        if self._fleet.can.feasible(Shape.of_line(line).model):
            return None
        found = self._fleet.place(line, ())
        return found.value if isinstance(found, Obstacle) else None

    def _next_moment(self) -> float | None:
        moments = (self._jobs.ordering.next_wake(), self._fleet.next_rest_end(), self._preempter.next_moment())
        return min((moment for moment in moments if moment is not None), default=None)
