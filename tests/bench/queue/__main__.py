"""The scheduler's order and memory as the queue grows: `make bench/queue`.

    python -m tests.bench.queue [--quick] [--part sizes|rate|restart]

Only what decides is measured: memory, order, fleet, dispatcher and forecaster of the scheduler itself, with a store
that answers at once and 64 workers of four rows whose attempts end as the bench says. Five tiers, 12 models
in four shapes, a tenth as many tenants as jobs and at most 10,000, some with many jobs and most with few. Every length
has a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from libs.devstack.postgres import PostgresServer
from tests.bench.queue import rate, restart, sizes

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK = SIZES[:2]
POSTGRES_SIZES = SIZES[:3]
RATES = ((1000.0, 0), (1000.0, 100_000))  # jobs a second, jobs that wait already
QUICK_RATES = ((1000.0, 0), (1000.0, 1000))
RATE_S = 10.0
PARTS = ("sizes", "rate", "restart")
Row = dict[str, float]


def child(*arguments: str) -> Row:
    """Run a part in a process of its own and return its row."""
    argv = [sys.executable, "-m", "tests.bench.queue", "--child", *arguments]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    found: Row = json.loads(done.stdout)
    return found


def show_sizes(lengths: Sequence[int]) -> None:
    """Print what every length costs, and by how much that grows from one to the next."""
    found = [child("sizes", str(length)) for length in lengths]
    print("\n| what | " + " | ".join(f"{length:,} jobs" for length in lengths) + " | growth of each decade |")
    print(f"|---|{'---|' * (len(lengths) + 1)}")
    for name in found[0]:
        values = [row[name] for row in found]
        growth = [f"{after / before:.2f} ×" for before, after in itertools.pairwise(values) if before]
        print(f"| {name} | " + " | ".join(f"{value:,.1f}" for value in values) + f" | {', '.join(growth)} |")


def show_rates(rates: Sequence[tuple[float, int]], seconds: float) -> None:
    """Print CPU and waits of the dispatcher at given rates."""
    print("\n| jobs/s that come | waiting besides | begun a second | of a core | p50 ms from queue to row | p99 ms |")
    print("|---|---|---|---|---|---|")
    for each, waiting in rates:
        row = child("rate", str(each), str(waiting), str(seconds))
        waits = "" if waiting else f"{row['wait_p50_ms']:.1f} | {row['wait_p99_ms']:.1f}"
        print(f"| {each:,.0f} | {waiting:,} | {row['jobs_a_s']:,.0f} | {row['cpu_share']:.0%} | {waits or '– | –'} |")


async def show_restarts(lengths: Sequence[int], on_server: Sequence[int]) -> None:
    """Print how long memory takes to be rebuilt."""
    print("\n| open jobs in | jobs | s | jobs/s | CPU s | bytes a job | peak / end | longest stall ms |")
    print("|---|---|---|---|---|---|---|---|")
    for name, length in [("SQLite", length) for length in lengths] + [("PostgreSQL", length) for length in on_server]:
        async with _database(name) as url:
            await asyncio.to_thread(child, "fill", url, str(length))
            row = await asyncio.to_thread(child, "restart", url)
            assert row["jobs"] == length, "every job is read"
            cells = (row["cpu s"], row["bytes a job"], row["peak over end"], row["longest stall ms"])
            told = f"{row['seconds']:.2f} | {length / row['seconds']:,.0f} | "
            print(f"| {name} | {length:,} | {told}" + " | ".join(f"{cell:,.2f}" for cell in cells) + " |")


@asynccontextmanager
async def _database(name: str) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        if name == "SQLite":
            yield f"sqlite+aiosqlite:///{folder}/jobs.db"
            return
        async with PostgresServer() as server:
            yield server.url


def _answer(part: str, arguments: Sequence[str]) -> object:
    """Return what a child process is asked for."""
    if part == "sizes":
        return sizes.measure(int(arguments[0]))
    if part == "fill":
        return asyncio.run(restart.fill(arguments[0], int(arguments[1])))
    if part == "restart":
        return asyncio.run(restart.measure(arguments[0]))
    return asyncio.run(rate.run(float(arguments[0]), int(arguments[1]), float(arguments[2])))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short queues only")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(_answer(asked.child[0], asked.child[1:])))
        return
    print(f"{platform.machine()}, Python {sys.version.split()[0]}")
    parts = asked.part or PARTS
    if "sizes" in parts:
        show_sizes(QUICK if asked.quick else SIZES)
    if "rate" in parts:
        show_rates(QUICK_RATES if asked.quick else RATES, 1.0 if asked.quick else RATE_S)
    if "restart" in parts:
        asyncio.run(show_restarts(QUICK if asked.quick else SIZES, QUICK[:1] if asked.quick else POSTGRES_SIZES))


if __name__ == "__main__":
    main()
