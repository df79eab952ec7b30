"""A job's events from the scheduler to a reader, over the scheduler's restarts: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar

from darkroom.v1 import job_pb2
from libs.clock import Clock
from libs.coordination.backoff import Backoff
from libs.errors import DarkroomError, Unavailable
from libs.ids import JobId, TenantId
from services.gateway.peers import Scheduler
from services.gateway.presentation import FINAL_EVENTS, Presenter, is_final
from services.gateway.sse import KEEPALIVE, KEEPALIVE_S, OPENING, error_frame, frame

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
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        """Yield a job's events up to the final one.

        Raises NotFound, or Unavailable when the scheduler is away at the beginning or this process is going away.
        """
        await self._scheduler.get_job(tenant_id, job_id)
        async with aclosing(self._followed(tenant_id, job_id, after_sequence)) as followed:
            async for event in followed:
                if event is not None:
                    yield event
        if self._stopping.is_set():
            raise Unavailable("This server is going away; follow the job again.", reason="DRAINING", retry_after_s=1.0)

    async def frames(self, tenant_id: TenantId, job_id: JobId, after_sequence: int) -> AsyncGenerator[bytes, None]:
        """Yield a job's events as server-sent events, with a comment in every 15 s of silence.

        Nothing is yielded when the final event lies before `after_sequence`. Raises only before the first frame;
        what comes later is told by an `error` event.
        """
        job = await self._scheduler.get_job(tenant_id, job_id)
        if not is_final(job):
            yield OPENING
        try:
            async with aclosing(self._followed(tenant_id, job_id, after_sequence)) as followed:
                async for event in followed:
                    yield KEEPALIVE if event is None else frame(event)
        except DarkroomError as error:
            yield error_frame(error)

    async def _followed(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int
    ) -> AsyncGenerator[job_pb2.JobEvent | None, None]:
        """Yield events, and None for every silence, with everything behind them closed at the end."""
        async with (
            aclosing(self._over_restarts(tenant_id, job_id, after_sequence)) as found,
            aclosing(self._paced(found)) as paced,
        ):
            async for event in paced:
                yield event

    async def _over_restarts(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        """Yield events until the final one, asking the scheduler again after the last sequence when it went away."""
        sequence, backoff = after_sequence, Backoff()
        while True:
            try:
                async with aclosing(self._scheduler.watch_job(tenant_id, job_id, sequence)) as watched:
                    async for event in watched:
                        backoff.reset()
                        sequence = max(sequence, event.sequence)
                        yield self._presenter.event(event)
                        if event.WhichOneof("event") in FINAL_EVENTS:
                            return
                if is_final(await self._scheduler.get_job(tenant_id, job_id)):
                    return  # the final event lies before `after_sequence`
            except Unavailable as error:
                logger.info("the scheduler went away from a reader", extra={"job_id": job_id, "reason": error.reason})
            await self._clock.sleep(backoff.next_s())

    async def _paced(self, items: AsyncIterator[T]) -> AsyncGenerator[T | None, None]:
        """Yield the items, and None in every 15 s without one; end with them or when the process is going away."""
        stop = asyncio.ensure_future(self._stopping.wait())
        pending = asyncio.ensure_future(_next(items))
        try:
            while True:
                tick = asyncio.ensure_future(self._clock.sleep(KEEPALIVE_S))
                try:
                    await asyncio.wait((stop, pending, tick), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    tick.cancel()
                if pending.done():
                    item = pending.result()
                    if item is None:
                        return
                    yield item[0]
                    pending = asyncio.ensure_future(_next(items))
                elif stop.done():
                    return
                else:
                    yield None
        finally:
            stop.cancel()
            pending.cancel()
            await asyncio.wait((stop, pending))


async def _next(items: AsyncIterator[T]) -> tuple[T] | None:
    """Return the next item in a tuple of one; None at the end."""
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return None
