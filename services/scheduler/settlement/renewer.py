"""Keeps the places of open jobs at the limiter, and tells it again of what it has forgotten.

Every EVERY_S all open jobs are named there, in batches. A place that nobody names is free after its lease, so a
scheduler that is gone holds up nobody; and a limiter that lost its memory has it back after one round. Where nothing
limits how many pictures run, only the second matters, and a part of those jobs is named each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from libs.backoff import Backoff
from libs.clients.limiter import MOST_RENEWED, OpenReservation
from libs.clock import Clock
from libs.errors import DarkroomError, Unavailable
from libs.ids import JobId
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.settlement import charging

logger = logging.getLogger(__name__)

EVERY_S = 30.0
UNLIMITED_A_ROUND = 5_000
_CONFIRMED_AT_ONCE = 16
_REST_S = 1.0  # for the limiter, between two rounds


class Limiter(Protocol):
    """Who keeps the places."""

    async def renew(self, reservations: Sequence[OpenReservation]) -> Sequence[JobId]:
        """Keep the places; returns the reservations that do not stand there. Raises Unavailable while it is gone."""
        ...

    async def deliver(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hand over a message of the outbox. Raises Unavailable while it is gone."""
        ...


class Renewer:
    """Renews while `run` runs."""

    def __init__(self, jobs: OpenJobs, limiter: Limiter, clock: Clock) -> None:
        self._jobs, self._limiter, self._clock = jobs, limiter, clock
        self._unlimited_from = 0

    async def run(self) -> None:
        """Renew until cancelled."""
        backoff = Backoff(first_s=1.0, most_s=EVERY_S)
        while True:
            wait_s, began_s = EVERY_S, self._clock.monotonic()
            try:
                await self._round()
                backoff.reset()
                wait_s = max(
                    _REST_S, EVERY_S - (self._clock.monotonic() - began_s)
                )  # a long round is no reason to wait
            except Unavailable as error:
                wait_s = backoff.next_s()
                logger.warning("places are not renewed: the limiter is away", extra={"cause": error.reason})
            except DarkroomError as error:
                logger.error("the limiter refused to renew", extra={"cause": error.reason})
            await self._clock.sleep(wait_s)

    async def _round(self) -> None:
        forgotten, named = 0, self._open()
        for first in range(0, len(named), MOST_RENEWED):
            places = {_place(job): job.id for job in named[first : first + MOST_RENEWED]}
            unknown = frozenset(await self._limiter.renew(tuple(places)))
            again = [job_id for place, job_id in places.items() if place.reservation_id in unknown]
            forgotten += len(again)
            for begin in range(0, len(again), _CONFIRMED_AT_ONCE):
                await asyncio.gather(*map(self._tell_again, again[begin : begin + _CONFIRMED_AT_ONCE]))
        if forgotten:
            logger.info("reservations were made again", extra={"reservations": forgotten})

    def _open(self) -> list[Job]:
        """Return all whose tenants are limited, and the next part of the others."""
        limited, others = list[Job](), list[Job]()
        for job in self._jobs.all():
            (others if job.running_images is None else limited).append(job)
        start = self._unlimited_from if self._unlimited_from < len(others) else 0
        self._unlimited_from = start + UNLIMITED_A_ROUND
        return limited + others[start : start + UNLIMITED_A_ROUND]

    async def _tell_again(self, job_id: JobId) -> None:
        job = self._jobs.get(job_id)
        if job is not None:  # it may have ended meanwhile
            message = charging.confirmation(job)
            await self._limiter.deliver(message.kind, message.payload)


def _place(job: Job) -> OpenReservation:
    return OpenReservation(charging.reservation_id(job), job.tenant_id, job.tier, job.key_id, job.address)
