"""Who is waited for to leave the fleet, by whom: forgotten with the last who waits, so that it stays as short as what runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.scheduler.placement.seats import Incarnation


class Departures:
    """Tells of incarnations that go."""

    def __init__(self) -> None:
        self._waiting: dict[Incarnation, dict[asyncio.Event, None]] = {}  # the first first

    async def wait(self, key: Incarnation) -> None:
        """Wait until `tell` finds that one is gone."""
        told = asyncio.Event()
        self._waiting.setdefault(key, {})[told] = None
        try:
            await told.wait()
        finally:
            del self._waiting[key][told]
            if not self._waiting[key]:
                del self._waiting[key]

    def tell(self, alive: Callable[[Incarnation], bool]) -> None:
        """Wake those whose incarnation is not alive, in the order in which they came."""
        for key, waiting in self._waiting.items():
            if not alive(key):
                for told in waiting:
                    told.set()
