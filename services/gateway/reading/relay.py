"""A job's events from the scheduler to a reader, over the scheduler's restarts: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from darkroom.v1 import job_pb2
from libs.backoff import Backoff
from libs.clock import Clock
from libs.errors import DarkroomError, Unavailable
from libs.ids import JobId, TenantId
from services.gateway.callers.withdrawals import Standing
from services.gateway.peers import Scheduler
from services.gateway.reading.presentation import FINAL_EVENTS, Presenter, is_final
from services.gateway.reading.sse import KEEPALIVE, KEEPALIVE_S, OPENING, error_frame, frame

logger = logging.getLogger(__name__)
T = TypeVar("T")


class EventRelay:
    """Follows jobs for readers. `stop` ends every stream that is open: this process is going away."""

    def __init__(self, scheduler: Scheduler, presenter: Presenter, clock: Clock) -> None:
        self._scheduler = scheduler
        self._presenter = presenter
        self._clock = clock
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let every stream end, so that readers go to another gateway."""
        self._stopping.set()

    async def events(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int, standing: Standing
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        """Yield a job's events up to the final one.

        Raises NotFound, Unavailable when the scheduler is away at the beginning or this process is going away, and
        Unauthenticated when what the reader came with stands no more.
        """
        await self._scheduler.get_job(tenant_id, job_id)
        async with aclosing(self._followed(tenant_id, job_id, after_sequence, standing)) as followed:
            async for event in followed:
                if event is not None:
                    yield event
        if self._stopping.is_set():
            raise Unavailable("This server is going away; follow the job again.", reason="DRAINING", retry_after_s=1.0)

    async def frames(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int, standing: Standing
    ) -> AsyncGenerator[bytes, None]:
        """Yield a job's events as server-sent events, with a comment in every 15 s of silence.

        Nothing is yielded when the final event lies before `after_sequence`. Raises only before the first frame;
        what comes later is told by an `error` event.
        """
        job = await self._scheduler.get_job(tenant_id, job_id)
        if not is_final(job):
            yield OPENING
        try:
            async with aclosing(self._followed(tenant_id, job_id, after_sequence, standing)) as followed:
                async for event in followed:
                    yield KEEPALIVE if event is None else frame(event)
        except DarkroomError as error:
            yield error_frame(error)

    async def _followed(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int, standing: Standing
    ) -> AsyncGenerator[job_pb2.JobEvent | None, None]:
        """Yield events, and None for every silence, with everything behind them closed at the end."""
        async with (
            aclosing(self._over_restarts(tenant_id, job_id, after_sequence)) as found,
            aclosing(self._paced(found, standing)) as paced,
        ):
            async for event in paced:
                yield event

    async def _over_restarts(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        """Yield events until the final one, asking the scheduler again after the last sequence when it went away."""
        place, backoff = _Place(after_sequence), Backoff()
        while not place.over:
            async with aclosing(self._while_it_lasts(tenant_id, job_id, place)) as found:
                async for event in found:
                    backoff.reset()
                    yield event
            if not place.over:
                await self._clock.sleep(backoff.next_s())

    async def _while_it_lasts(
        self, tenant_id: TenantId, job_id: JobId, place: _Place
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        """Yield events of one watch and note the place; ends quietly when the scheduler goes away."""
        try:
            async with aclosing(self._scheduler.watch_job(tenant_id, job_id, place.sequence)) as watched:
                async for event in _up_to_final(watched):
                    place.note(event)
                    yield self._presenter.event(event)
            # Without a final event it may be one before the place where the reader began.
            place.over = place.over or is_final(await self._scheduler.get_job(tenant_id, job_id))
        except Unavailable as error:
            logger.info("the scheduler went away from a reader", extra={"job_id": job_id, "reason": error.reason})

    async def _paced(self, items: AsyncIterator[T], standing: Standing) -> AsyncGenerator[T | None, None]:
        """Yield the items, and None in every 15 s without one; end with them or when the process is going away.

        Raises Unauthenticated when what the reader came with stands no more.
        """
        stop = asyncio.ensure_future(self._stopping.wait())
        pending = asyncio.ensure_future(_next(items))
        try:
            while True:
                await self._first_of(stop, standing.over, pending)
                standing.check()
                if not pending.done() and not stop.done():
                    yield None
                    continue
                item = pending.result() if pending.done() else None
                if item is None:
                    return
                yield item[0]
                pending = asyncio.ensure_future(_next(items))
        finally:
            stop.cancel()
            pending.cancel()
            await asyncio.wait((stop, pending))

    async def _first_of(self, *futures: asyncio.Future[Any]) -> None:
        """Wait until one of them is done, at most 15 s."""
        tick = asyncio.ensure_future(self._clock.sleep(KEEPALIVE_S))
        try:
            await asyncio.wait((*futures, tick), return_when=asyncio.FIRST_COMPLETED)
        finally:
            tick.cancel()


@dataclass(slots=True)
class _Place:
    """How far a reader has come."""

    sequence: int
    over: bool = False

    def note(self, event: job_pb2.JobEvent) -> None:
        """Move on to an event that is being sent."""
        self.sequence = max(self.sequence, event.sequence)
        self.over = event.WhichOneof("event") in FINAL_EVENTS


async def _up_to_final(events: AsyncIterator[job_pb2.JobEvent]) -> AsyncGenerator[job_pb2.JobEvent, None]:
    """Yield events and end behind the final one, whether or not the sender does."""
    async for event in events:
        yield event
        if event.WhichOneof("event") in FINAL_EVENTS:
            return


async def _next(items: AsyncIterator[T]) -> tuple[T] | None:
    """Return the next item in a tuple of one; None at the end."""
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return None
