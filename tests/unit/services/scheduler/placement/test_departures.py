"""Whoever waits for a worker to go is told, once, and nobody else is."""

from __future__ import annotations

import asyncio

from libs.ids import WorkerId
from services.scheduler.placement.departures import Departures
from services.scheduler.placement.seats import Incarnation

A, B = (WorkerId("a"), "1"), (WorkerId("b"), "1")


async def test_only_those_whose_worker_went_are_told() -> None:
    departures = Departures()
    first, second, other = (asyncio.create_task(departures.wait(key)) for key in (A, A, B))
    await asyncio.sleep(0)
    departures.tell(lambda key: key == B)
    await asyncio.gather(first, second)
    assert not other.done()
    departures.tell(lambda _key: False)
    await other


async def test_who_waits_no_longer_is_not_looked_at_again() -> None:
    departures, asked = Departures(), list[Incarnation]()

    def alive(key: Incarnation) -> bool:
        asked.append(key)
        return True

    gone = asyncio.create_task(departures.wait(A))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    departures.tell(alive)
    assert not asked
