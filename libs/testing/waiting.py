"""Waits for what only asking can tell. The one place where tests wait by the clock, always with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

_ASK_EVERY_S = 0.1


async def pause() -> None:
    """Leave a peer that is down a moment before it is asked again."""
    await asyncio.sleep(_ASK_EVERY_S)


async def until(is_so: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Ask until the answer is yes; raises TimeoutError when that takes longer than `within_s`."""
    async with asyncio.timeout(within_s):
        while not await is_so():
            await pause()
