"""Hears an attempt out, over one stream after the other: a stream that breaks is not an attempt that failed.

The worker goes on without us, keeps what it said and its outcome, and gives all of that to whoever attaches. So a
broken stream makes it suspect: nothing new goes there for a moment, and we attach again. Only one that cannot be
attached to for PATIENCE_S, or that does not know the attempt, has lost it.
"""

from __future__ import annotations

import dataclasses
import logging
from contextlib import aclosing

from libs.backoff import Backoff
from libs.clients.modelserver import AttemptEvent, Order, Preview, Progress, WorkerLost, WorkerRefused
from libs.clock import Clock
from libs.generation.attempt import Checkpointed
from services.scheduler.attempts.checkpoints import CheckpointBook
from services.scheduler.attempts.outcome import Attempt, Close, Heard
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.placement.fleet import REFUSED_REST_S, Fleet

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0  # from a stream's break to the end of trying; a worker that restarts is seen in the fleet before


class _Breaks:
    """The breaks of one attempt's streams: how long to wait before the next try, and when to give up."""

    def __init__(self) -> None:
        self._since = 0.0
        self._count = 0
        self._backoff = Backoff(most_s=1.0)

    def another(self, now: float, *, went_well: bool) -> bool:
        """Count a break; returns whether there is no hope. `went_well`: something was heard on that stream."""
        if went_well or not self._count:
            self._since = now
        self._count += 1
        return now - self._since >= PATIENCE_S

    def wait_s(self) -> float:
        """Return the seconds before the next try: none the first time."""
        return self._backoff.next_s() if self._count > 1 else 0.0


class Listener:
    """Follows attempts on their workers."""

    def __init__(self, fleet: Fleet, hub: WatchHub, book: CheckpointBook, clock: Clock) -> None:
        self._fleet = fleet
        self._hub = hub
        self._book = book
        self._clock = clock

    async def listen(self, attempt: Attempt, heard: Heard) -> Close:
        """Return how an attempt ended, as its worker says. Raises DarkroomError when it cannot be heard, and Deposed."""
        order, breaks = self._order(attempt), _Breaks()
        while True:
            before, began_at = heard.events, self._clock.now()
            try:
                return await self._hear(order, attempt, heard)
            except (WorkerLost, WorkerRefused) as error:
                if isinstance(error, WorkerRefused) and not order.attach:
                    raise  # it never took it
                now = self._clock.now()
                stood = isinstance(error, WorkerLost) and now - began_at >= PATIENCE_S  # the stream, in silence
                went_well = heard.events > before or stood
                self._suspect(attempt, error)
                if breaks.another(now, went_well=went_well):
                    raise WorkerLost(error.message) from error
            order = dataclasses.replace(order, attach=True)
            if wait_s := breaks.wait_s():
                await self._clock.sleep(wait_s)

    def _order(self, attempt: Attempt) -> Order:
        job = attempt.job
        return Order(
            job_id=job.id,
            attempt=job.attempt,
            epoch=attempt.epoch,
            model_version=job.model_version,
            spec=job.spec,
            resume_from=attempt.resume_from,
            tenant_id=job.tenant_id,
            attach=attempt.attach,
        )

    async def _hear(self, order: Order, attempt: Attempt, heard: Heard) -> Close:
        job = attempt.job
        async with aclosing(attempt.server.execute(order)) as events:
            async for event in events:
                await self._pass_on(event, attempt)
                close = heard.take(event, job)
                if close is not None:
                    return close
        raise WorkerLost("The stream ended before the attempt did.")

    async def _pass_on(self, event: AttemptEvent, attempt: Attempt) -> None:
        if isinstance(event, Progress):
            attempt.run.begin(self._clock.now())
            self._fleet.expect_end(attempt.worker, attempt.job.id, event.eta_s)
        if isinstance(event, Progress | Preview):
            self._hub.tell(attempt.job.id, event)
        elif isinstance(event, Checkpointed):
            await self._book.take(attempt.job, event)

    def _suspect(self, attempt: Attempt, error: WorkerLost | WorkerRefused) -> None:
        job, worker = attempt.job, attempt.worker
        fields = {"job_id": job.id, "worker_id": worker.worker_id, "attempt": job.attempt}
        logger.info("the stream of an attempt broke", extra=fields | {"cause": error.message})
        self._fleet.rest(worker, REFUSED_REST_S)
