"""A process that accepts jobs without end and prints the id of each when it is acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import sys

from services.scheduler.storage.sql_store import open_store
from tests.contract.job_store.samples import a_job

AT_ONCE = 8


async def main(url: str) -> None:
    store = open_store(url)
    numbers = itertools.count(1)

    async def accept() -> None:
        for number in numbers:
            accepted = await store.accept(a_job(number), [])
            sys.stdout.write(accepted.job.id + "\n")
            sys.stdout.flush()

    await asyncio.gather(*(accept() for _ in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
