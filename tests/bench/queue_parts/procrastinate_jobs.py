"""procrastinate with a no-op task; run as a program it is a worker."""

from __future__ import annotations

import asyncio
import os

import procrastinate

from tests.bench.queue_parts import ran

CONCURRENCY = 10
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ.get(ran.BROKER, "")))
FILE = ran.opened()


async def do_nothing(text: str) -> None:
    """Do nothing."""
    ran.ran(FILE)


nothing = app.task(name="nothing")(do_nothing)


async def work() -> None:
    """Work until killed."""
    async with app.open_async():
        await app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)


if __name__ == "__main__":
    asyncio.run(work())
