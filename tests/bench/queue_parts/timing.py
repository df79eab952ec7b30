"""What a queue took for a number of jobs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from libs.clock import SystemClock

CLOCK = SystemClock()
_LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Took:
    """Jobs a second until the last was acknowledged, and until the last had run."""

    put_per_s: float
    run_per_s: float


async def until_counted(count: Callable[[], int], wanted: int, within_s: float) -> float:
    """Wait until so many have run; returns when that was seen. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while count() < wanted:
            await CLOCK.sleep(_LOOK_EVERY_S)
    return time.monotonic()
