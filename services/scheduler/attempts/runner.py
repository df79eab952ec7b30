"""Follows one attempt on one worker, from Execute to its commit.

    order → it is heard out (listening) → it ends, is lost, is stopped or runs too long → one commit closes the attempt

Its time counts from its first step: before, it may wait on the worker for its model or for room. One that never begins
is tried elsewhere.

The commit is a compare-and-set on (job, attempt): whatever a worker says later changes nothing.
"""

from __future__ import annotations

import logging

from opentelemetry import trace

from libs import errors
from libs.alarm import first
from libs.backoff import Backoff
from libs.clock import Clock
from libs.generation.model import id_of
from services.scheduler.attempts.closer import AttemptCloser
from services.scheduler.attempts.listening import Listener
from services.scheduler.attempts.outcome import Attempt, Close, Done, Heard, TimedOut, mishap_of
from services.scheduler.attempts.run_limit import RunLimits
from services.scheduler.placement.fleet import LOST_REST_S, REFUSED_REST_S, Fleet
from services.scheduler.placement.preempter import Preempter
from services.scheduler.pricing.keeper import PriceKeeper
from services.scheduler.retries.retry import Fault, Mishap
from services.scheduler.storage.store import Deposed

logger = logging.getLogger(__name__)

BEGIN_S = 900.0  # for a worker to load and compile what an attempt needs, and to have room for it
STOP_S = 60.0  # to reach a worker that is to stop
CANCEL_PATIENCE_S = 20.0  # a worker that was told to stop and does not answer for so long is as good as lost
_PARKED_LOOK_S = 5.0  # how often the time of a parked attempt is looked at when little is left of it
_CLOSE_S = 0.001  # to the limit is close enough: a clock in Unix seconds is no finer than a microsecond
_NOT_BEGUN = Mishap(Fault.TRANSIENT, "GENERATION_TIMEOUT", f"The worker did not begin within {BEGIN_S:.0f} s.")


class AttemptRunner:
    """Runs attempts, each in a task of its own."""

    def __init__(
        self,
        fleet: Fleet,
        listener: Listener,
        preempter: Preempter,
        closer: AttemptCloser,
        prices: PriceKeeper,
        clock: Clock,
    ) -> None:
        self.limits = RunLimits()  # an operator's
        self._fleet = fleet
        self._listener = listener
        self._preempter = preempter
        self._closer = closer
        self._prices = prices
        self._clock = clock

    async def run(self, attempt: Attempt) -> None:
        """Follow an attempt and commit what came of it. Raises Deposed; cancelled, it leaves the attempt open."""
        self._preempter.began(attempt)
        try:
            await self._run(attempt)
        finally:
            self._preempter.over(attempt)

    async def _run(self, attempt: Attempt) -> None:
        heard = Heard(stages=[attempt.waited])
        with trace.use_span(attempt.span, end_on_exit=True):
            close = await self._follow(attempt, heard)
            self._let_rest(attempt, close)
            self._fleet.learn_loads(attempt.worker, attempt.job.model_version, heard.stages)
            heard.worth = self._prices.worth(attempt.job, attempt.worker)
            if isinstance(close, Done) and not attempt.resume_from:
                self._prices.drew(attempt.job, attempt.worker, heard.gpu_ms)
            await self._closer.close(attempt, close, heard)
        if (
            isinstance(close, TimedOut)
            or close is _NOT_BEGUN
            or (isinstance(close, Mishap) and close.fault is Fault.WORKER_LOST)
        ):
            await self._stop(attempt)  # best effort: an orphan holds its row until it is through

    async def _follow(self, attempt: Attempt, heard: Heard) -> Close:
        said: list[Close] = []
        late: list[Close] = []
        try:
            await first(
                self._listen(attempt, heard, said),
                self._run_out(attempt, heard, late),
                self._fleet.gone(attempt.worker),
                self._stop_when_asked(attempt),
            )
        except errors.DarkroomError as error:
            return mishap_of(error, attempt)
        except Deposed:
            raise
        except Exception:  # owns the attempt: a fault of ours must close it, not leave it running for ever
            logger.exception("following an attempt failed", extra={"job_id": attempt.job.id})
            return Mishap(Fault.TRANSIENT, "INTERNAL", "Something failed on our side.")
        return (said or late or [Mishap(Fault.WORKER_LOST, "WORKER_LOST", "The worker is gone.")])[0]

    async def _run_out(self, attempt: Attempt, heard: Heard, late: list[Close]) -> None:
        """Return when an attempt has not begun in time, or has run for too long since."""
        await first(heard.drew.wait(), self._clock.sleep(BEGIN_S))
        if not heard.drew.is_set():
            late.append(_NOT_BEGUN)
            return
        job = attempt.job
        limit_s = self.limits.limit_s(id_of(job.model_version), job.tier, job.estimated_units)
        while (left_s := limit_s - attempt.run.drawn_s(self._clock.now())) > _CLOSE_S:
            await self._clock.sleep(left_s if attempt.run.runs else max(left_s, _PARKED_LOOK_S))
        late.append(TimedOut(limit_s))

    async def _listen(self, attempt: Attempt, heard: Heard, said: list[Close]) -> None:
        said.append(await self._listener.listen(attempt, heard))

    async def _stop_when_asked(self, attempt: Attempt) -> None:
        """Return when the worker, told to stop, has not said that it did, or could not be told."""
        await attempt.stop.wait()
        await first(self._tell_to_stop(attempt), self._clock.sleep(STOP_S))

    async def _tell_to_stop(self, attempt: Attempt) -> None:
        """Tell the worker to stop until it has heard, then give it time to say so."""
        backoff = Backoff()
        while not await self._stop(attempt):
            await self._clock.sleep(backoff.next_s())
        await self._clock.sleep(CANCEL_PATIENCE_S)

    async def _stop(self, attempt: Attempt) -> bool:
        try:
            return await attempt.server.cancel(attempt.job.id, attempt.job.attempt, attempt.epoch)
        except errors.DarkroomError as error:
            extra = {"job_id": attempt.job.id, "worker_id": attempt.worker.worker_id, "cause": error.reason}
            logger.info("a worker could not be told to stop", extra=extra)
            return False

    def _let_rest(self, attempt: Attempt, close: Close) -> None:
        if not isinstance(close, Mishap):
            return
        unreachable = close.fault is Fault.REFUSED and close.reason == "UNAVAILABLE"
        if close.fault is Fault.WORKER_LOST or unreachable:
            self._fleet.rest(attempt.worker, LOST_REST_S)
        elif close.fault in (Fault.REFUSED, Fault.DRAINING):
            self._fleet.rest(attempt.worker, REFUSED_REST_S)
