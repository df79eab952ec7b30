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


async def test_they_are_told_in_the_order_in_which_they_began_to_wait() -> None:
    departures, told = Departures(), list[int]()

    async def wait(number: int) -> None:
        await departures.wait(A)
        told.append(number)

    waiting = [asyncio.create_task(wait(number)) for number in range(50)]
    await asyncio.sleep(0)
    departures.tell(lambda _key: False)
    await asyncio.gather(*waiting)
    assert told == list(range(50))
