"""Waiting for whatever comes first: somebody rings, a moment comes, one of several things ends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from libs.clock import Clock


class Alarm:
    """Wakes one agent. A ring while it is at work is kept until it waits again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the agent, now or when it waits next."""
        self._rung.set()

    def still(self) -> None:
        """Forget a ring: its agent is about to look anyway."""
        self._rung.clear()

    async def wait(self, until: float | None = None) -> None:
        """Wait for a ring, or until a moment in Unix seconds."""
        if until is None:
            await self._rung.wait()
        elif not self._rung.is_set() and until > self._clock.now():
            await self._wait_until(until)
        self._rung.clear()

    async def _wait_until(self, until: float) -> None:
        ringer = asyncio.create_task(self._ring_at(until))  # one task: agents wait so for every job, some many times
        try:
            await self._rung.wait()
        finally:
            ringer.cancel()
            await asyncio.gather(ringer, return_exceptions=True)

    async def _ring_at(self, moment: float) -> None:
        await self._clock.sleep(moment - self._clock.now())
        self._rung.set()


async def first(*contestants: Coroutine[Any, Any, object]) -> int:
    """Run all until one ends, cancel the others, and return the number of the earliest listed that ended.

    Its exception is raised here.
    """
    tasks = [asyncio.create_task(contestant) for contestant in contestants]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(number for number, task in enumerate(tasks) if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await tasks[winner]
    return winner
