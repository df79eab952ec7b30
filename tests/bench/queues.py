"""Enqueueing and running jobs that do nothing, beside Celery, dramatiq and procrastinate: `make bench/queues`.

    python -m tests.bench.queues [--jobs 2000] [--rounds 3] [--only celery …] [--quick]

Each runs as its documentation says, with two worker processes and its own broker or database on this machine, started
for its turn; rounds are taken in turn. Sixteen callers wait for the acknowledgement of each job before they give the
next. Counted are the acknowledged jobs a second, and the jobs a second until the last had run.

Ours are a scheduler process and two processes of simulated workers that answer at once. It does more for each job: an
idempotency key and a price, fair order over tenants and tiers, placement by model, a committed attempt, events to
watch, a settled charge.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench.mesh_parts import mesh
from tests.bench.mesh_parts.load import submission
from tests.bench.mesh_parts.mesh import Mesh, Plan
from tests.bench.queue_parts import others
from tests.bench.queue_parts.put import IN_FLIGHT
from tests.bench.queue_parts.timing import Took, until_counted

CONTESTANTS = (
    ("Darkroom", "sqlite", "SQLite, synchronous=FULL: flushed before each acknowledgement"),
    ("Darkroom", "postgres", "PostgreSQL, synchronous_commit on"),
    ("celery", "everysec", "Redis, appendfsync everysec: a crash loses a second"),
    ("celery", "always", "Redis, appendfsync always"),
    ("dramatiq", "everysec", "Redis, appendfsync everysec"),
    ("dramatiq", "always", "Redis, appendfsync always"),
    ("procrastinate", "postgres", "PostgreSQL, synchronous_commit on"),
)
PLAN = Plan(count=16, rows=4, models=1, resident=1)
_RUN_S = 120.0


class Queue(Protocol):
    """A queue that runs."""

    async def run(self, count: int) -> Took:
        """Give it jobs and wait until all have run."""
        ...


@dataclass(slots=True)
class Ours:
    """A mesh as a queue of jobs that do nothing."""

    mesh: Mesh
    ended: set[str] = field(default_factory=set)
    last_s: float = 0.0

    async def run(self, count: int) -> Took:
        """Submit jobs and wait until the end of each is committed."""
        chance, left, wanted = random.Random(count), iter(range(count)), len(self.ended) + count

        async def caller() -> None:
            for number in left:
                await self.mesh.client.submit(submission(number, PLAN.names, 0.0, chance))

        began = time.monotonic()
        putting = asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        over = asyncio.create_task(until_counted(self._count, wanted, _RUN_S))
        await putting
        put = time.monotonic()
        await over
        last = max(self.last_s, began)
        return Took(count / (put - began), count / (last - began))

    def _count(self) -> int:
        for note in self.mesh.notes.news():
            if note.kind == "E":
                self.ended.add(note.job)
                self.last_s = max(self.last_s, note.at_s)
        return len(self.ended)


@asynccontextmanager
async def started(name: str, durability: str, folder: Path) -> AsyncIterator[Queue]:
    """Run a contestant."""
    if name == "Darkroom":
        async with mesh.running(
            Plan(PLAN.count, PLAN.rows, 1, 1, postgres=durability == "postgres"), folder
        ) as running:
            ours = Ours(running)
            await ours.run(20)
            yield ours
        return
    async with others.started(name, durability, folder) as other:
        yield other


async def main(options: argparse.Namespace) -> None:
    """Print a table."""
    logging.disable()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {options.jobs} jobs a round, ",
        end="",
    )
    print(f"{options.rounds} rounds in turn, {IN_FLIGHT} in flight, medians\n")
    found: dict[tuple[str, str], list[Took]] = {}
    chosen = [each for each in CONTESTANTS if not options.only or each[0] in options.only]
    for _ in range(options.rounds):
        for name, durability, _words in chosen:
            with tempfile.TemporaryDirectory() as folder:
                async with started(name, durability, Path(folder)) as queue:
                    found.setdefault((name, durability), []).append(await queue.run(options.jobs))
    print("| queue | durability | enqueued/s | enqueued and run/s | against Darkroom, SQLite |\n|---|---|---|---|---|")
    base = statistics.median(took.run_per_s for took in next(iter(found.values())))
    for name, durability, words in chosen:
        put = statistics.median(took.put_per_s for took in found[name, durability])
        run = statistics.median(took.run_per_s for took in found[name, durability])
        print(f"| {name} | {words} | {put:.0f} | {run:.0f} | {run / base:.2f} × |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--quick", action="store_true", help="one round of 200 jobs")
    given = parser.parse_args()
    if given.quick:
        given.jobs, given.rounds = 200, 1
    asyncio.run(main(given))
