"""The attempts of this worker by (job, attempt): attach to one that is known, start one that is not."""

from __future__ import annotations

import logging
from collections.abc import Callable

from opentelemetry.context import Context

from libs.clock import Clock
from libs.errors import NotFound, PreconditionFailed
from libs.generation.attempt import StageDone
from services.modelserver.attempt import Attempt, Key, Order
from services.modelserver.events import Done, Failed
from services.modelserver.worker import Worker

logger = logging.getLogger(__name__)

REMEMBERED_S = 600.0  # how long an outcome waits for a scheduler that lost the stream
ALONE_S = 300.0  # for which a parked attempt waits for somebody to follow it; whoever parked it gave it up, or is gone


class Attempts:
    """Authority for which attempt is which. One token is run once, however often it is sent."""

    def __init__(
        self,
        worker: Worker,
        clock: Clock,
        on_stage: Callable[[Attempt, StageDone], None],
        on_end: Callable[[Done | Failed], None],
    ) -> None:
        self._worker = worker
        self._clock = clock
        self._on_stage, self._on_end = on_stage, on_end
        self._known: dict[Key, Attempt] = {}
        self._epoch = 0

    def take(self, order: Order, trace: Context) -> Attempt:
        """Return the attempt of this token, started now if it is new.

        Raises PreconditionFailed for a leader or an attempt of the past, Unavailable when there is no room, NotFound
        for one that is only to be followed and is not known.
        """
        self._forget_old()
        self._heed(order.epoch)
        attempt = self._known.get(order.key)
        if attempt is None and order.attach:
            told = f"The attempt {order.attempt} at {order.job_id} is not known here."
            raise NotFound(told, reason="ATTEMPT_UNKNOWN", metadata={"job_id": order.job_id})
        if attempt is None:
            self._check_is_latest(order)
            self._stop_earlier(order)
            attempt = Attempt(order, trace, self._on_stage, self._on_end)
            self._worker.offer(attempt)
            self._known[order.key] = attempt
        return attempt

    def cancel(self, key: Key, epoch: int) -> bool:
        """Stop an attempt at its next step; returns False when there is nothing to stop.

        Raises PreconditionFailed for a leader of the past, as `park` and `resume` do.
        """
        self._heed(epoch)
        attempt = self._known.get(key)
        if attempt is None or attempt.outcome is not None:
            return False
        self._worker.cancel(attempt)
        return True

    async def park(self, key: Key, epoch: int) -> bool:
        """Take an attempt off the device, to go on later; False when it does not draw here."""
        self._heed(epoch)
        attempt = self._known.get(key)
        return attempt is not None and await self._worker.park(attempt)

    async def resume(self, key: Key, epoch: int) -> bool:
        """Let a parked attempt go on; False when it is not parked here."""
        self._heed(epoch)
        attempt = self._known.get(key)
        return attempt is not None and await self._worker.resume(attempt)

    def _heed(self, epoch: int) -> None:
        """Obey no leader that came before one that was heard."""
        if epoch < self._epoch:
            told = f"The epoch {epoch} has passed; {self._epoch} was seen here."
            raise PreconditionFailed(told, reason="EPOCH_STALE", metadata={"epoch": str(self._epoch)})
        self._epoch = epoch

    def _check_is_latest(self, order: Order) -> None:
        """An order that was long under way must not begin what its sender gave up and sent again as another attempt."""
        newer = max((number for job_id, number in self._known if job_id == order.job_id), default=0)
        if newer > order.attempt:
            raise PreconditionFailed(f"Attempt {newer} at the job came before attempt {order.attempt}.")

    def _stop_earlier(self, order: Order) -> None:
        """Stop older attempts at the same job: whoever sends the next one has given them up."""
        for (job_id, number), attempt in self._known.items():
            if job_id == order.job_id and number < order.attempt and attempt.outcome is None:
                logger.info("attempt superseded", extra={"job_id": job_id, "attempt": number})
                self._worker.cancel(attempt)

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        for key, attempt in list(self._known.items()):
            if attempt.outcome is None:
                self._give_up_alone(attempt, now)
                continue
            if attempt.over_at_s is None:
                attempt.over_at_s = now
            elif now - attempt.over_at_s > REMEMBERED_S:
                del self._known[key]

    def _give_up_alone(self, attempt: Attempt, now: float) -> None:
        """Stop a parked attempt that nobody will ask to go on: its state takes the room of another's."""
        if attempt.followers or not attempt.parked:
            attempt.alone_at_s = None
        elif attempt.alone_at_s is None:
            attempt.alone_at_s = now
        elif now - attempt.alone_at_s > ALONE_S:
            logger.info("a parked attempt is given up", extra={"job_id": attempt.order.job_id})
            self._worker.cancel(attempt)
