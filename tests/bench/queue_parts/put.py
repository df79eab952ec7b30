"""Gives jobs to another queue, sixteen at a time: `python -m … celery|dramatiq|procrastinate COUNT`.

Prints when the first was given and when the last was acknowledged, in seconds of the machine's monotonic clock. One
more job goes before, so that connections stand.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

IN_FLIGHT = 16
TEXT = "a red circle left of a blue square"


async def in_threads(put: Callable[[str], Any], count: int) -> None:
    """Put jobs from threads, as programs that block do."""
    put(TEXT)
    loop, left = asyncio.get_running_loop(), iter(range(count))

    def some() -> None:
        for _ in left:
            put(TEXT)

    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        await timed(lambda: asyncio.gather(*(loop.run_in_executor(threads, some) for _ in range(IN_FLIGHT))))


async def with_procrastinate(count: int) -> None:
    """Put jobs from tasks."""
    from tests.bench.queue_parts.procrastinate_jobs import app, nothing

    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await nothing.defer_async(text=TEXT)

    async with app.open_async():
        await nothing.defer_async(text=TEXT)
        await timed(lambda: asyncio.gather(*(some() for _ in range(IN_FLIGHT))))


async def timed(put: Callable[[], Awaitable[Any]]) -> None:
    """Print when it began and when it was over."""
    began = time.monotonic()
    await put()
    print(began, time.monotonic(), flush=True)


async def main(queue: str, count: int) -> None:
    """Put them."""
    if queue == "celery":
        from tests.bench.queue_parts import celery_jobs

        await in_threads(celery_jobs.nothing.delay, count)
    elif queue == "dramatiq":
        from tests.bench.queue_parts import dramatiq_jobs

        await in_threads(dramatiq_jobs.nothing.send, count)
    else:
        await with_procrastinate(count)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
