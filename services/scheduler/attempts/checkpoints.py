"""Where attempts can be gone on from: written down while they run, handed to the next one, asked for at the end.

A checkpoint is worth more than the attempt that made it: it goes to whichever attempt is next, on whatever worker,
also over one that was lost before it made its own. One that two attempts in a row came to nothing with is not
handed out again: it may be what kills them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from libs.clock import Clock
from libs.generation.attempt import Checkpointed
from libs.ids import JobId
from services.scheduler.job import AttemptRecord, Job
from services.scheduler.replicas.lead import Lead
from services.scheduler.retries.retry import RESTARTED
from services.scheduler.storage.store import JobStore, StoreUnavailable
from services.scheduler.storage.wishes import Mark

logger = logging.getLogger(__name__)

TRIES = 2  # attempts that may begin with the same checkpoint and be lost
REST_S = 5.0  # after the database did not answer: the worker's events must not wait for it again and again


def resume_from(attempts: Sequence[AttemptRecord]) -> str:
    """Return the checkpoint for the attempt after these; empty: it starts from the beginning."""
    fruitless = 0
    for attempt in reversed(attempts):
        if attempt.checkpoint_ref:
            return attempt.checkpoint_ref if fruitless < TRIES else ""
        fruitless += attempt.outcome == "lost" and attempt.reason != RESTARTED
    return ""


def advanced(attempts: Sequence[AttemptRecord]) -> bool:
    """Return whether the last of these attempts left a checkpoint that is further than every one before it."""
    steps = [attempt.checkpoint_step for attempt in attempts]
    return bool(steps) and steps[-1] > max(steps[:-1], default=0)


class CheckpointBook:
    """Writes checkpoints down as they are announced."""

    def __init__(self, store: JobStore, clock: Clock, lead: Lead, heard_of: Callable[[JobId], None]) -> None:
        self._store = store
        self._clock = clock
        self._lead = lead
        self._heard_of = heard_of  # tells who clears up
        self._rests_until = 0.0

    async def take(self, job: Job, saved: Checkpointed) -> None:
        """Write down a checkpoint of the attempt that runs; one that is lost to a silent database is no loss of work.

        Raises Deposed.
        """
        self._heard_of(job.id)
        extra = {"job_id": job.id, "attempt": job.attempt, "checkpoint": saved.ref, "step": saved.step}
        if self._clock.now() < self._rests_until:
            return
        try:
            written = await self._store.mark(Mark(job.id, job.attempt, self._lead.epoch, saved.ref, saved.step))
        except StoreUnavailable as error:
            self._rests_until = self._clock.now() + REST_S
            logger.warning("a checkpoint was not written down", extra=extra | {"cause": str(error)})
        else:
            logger.info("checkpoint written down", extra=extra | {"written": written, "total": saved.total})
