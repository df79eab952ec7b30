"""What accepting a job costs, every acknowledgement after its fsync, beside raw group commit: `make bench/accept`.

    python -m tests.bench.accept [--quick] [--rows 1000 10000 …] [--databases sqlite postgres]

In one process and one run, in turn: the scheduler's store (`accept`: the job, its event, its message of the outbox, looked
up by id and idempotency key first), the same rows' bytes inserted by the same driver with nothing around them, one
transaction a batch of what arrived while the last was committed, and the same bytes appended to a file with one fsync a
batch. So many callers as told wait for their acknowledgement each and then offer the next job. Then the same at a table
that already has so many jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import insert

from libs.devstack.postgres import PostgresServer
from libs.ids import JobId, TenantId, new_job_id
from libs.sql.addresses import of_file
from libs.sql.engines import open_engines
from services.scheduler.job import Job, JobState
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.settlement import charging
from services.scheduler.storage import sql_rows
from services.scheduler.storage.group_commit import GroupCommit
from services.scheduler.storage.sql_schema import job_events, jobs
from services.scheduler.storage.sql_store import open_store
from tests.unit.services.scheduler.fakes import job, spec

CONCURRENCY = (1, 16, 256)
ROUNDS, SECONDS = 3, 2.0
TENANTS, FILL_BATCH = 10_000, 5_000
Accept = Callable[[Job], Awaitable[object]]
RAW_TABLE = "CREATE TABLE raw (id TEXT PRIMARY KEY, job TEXT NOT NULL, event TEXT NOT NULL, message TEXT NOT NULL)"
NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Sample:
    """One round: jobs a second, and how long acknowledgements took in milliseconds."""

    per_s: float
    p50_ms: float
    p99_ms: float


def new_job(**changes: Any) -> Job:
    """Return a job as the desk gets it, with an idempotency key of its own."""
    number = next(NUMBERS)
    fields: dict[str, Any] = {"tenant_id": TenantId(f"tenant-{number % TENANTS}"), "request_id": f"request-{number}"}
    return job(time.time(), spec=spec(seed=number), **{**fields, **changes})


def raw_rows(new: Job) -> tuple[str, str, str, str]:
    """Return what a job's rows hold, as bytes."""
    row = sql_rows.job_values(new)
    message = {"kind": "confirm", "payload": dict(charging.confirmation(new).payload)}
    return str(new.id), json.dumps(row), json.dumps({"seq": 1, "kind": "queued"}), json.dumps(message)


async def measure(accept: Accept, concurrency: int, seconds: float) -> Sample:
    """Have so many callers accept one job after the other for a while."""
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def caller() -> None:
        while time.perf_counter() < until:
            new, began = new_job(), time.perf_counter()
            await accept(new)
            taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    ordered, lasted = sorted(taken), time.perf_counter() - began
    return Sample(len(taken) / lasted, *(1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99)))


def grouped(commit: Callable[[Sequence[tuple[str, str, str, str]]], Awaitable[None]]) -> Accept:
    """Return an accept that commits what arrived meanwhile, and nothing else."""

    async def all_of(rows: Sequence[tuple[str, str, str, str]]) -> Sequence[None]:
        await commit(rows)
        return [None] * len(rows)

    group: GroupCommit[tuple[str, str, str, str], None] = GroupCommit(all_of)
    return lambda new: group.submit(raw_rows(new))


def into_file(path: Path) -> Accept:
    """Return an accept that appends to a file and flushes it to the disk, once a batch."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(rows: Sequence[tuple[str, ...]]) -> None:
        os.write(descriptor, "".join("".join(row) for row in rows).encode())
        os.fsync(descriptor)

    return grouped(lambda rows: asyncio.to_thread(write, rows))


def into_sqlite(path: Path) -> Accept:
    """Return an accept of bare inserts with the driver that is under ours too."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(RAW_TABLE)

    def write(rows: Sequence[tuple[str, ...]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO raw VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")

    return grouped(lambda rows: asyncio.to_thread(write, rows))


async def into_postgres(url: str) -> Accept:
    """Return an accept of bare inserts with asyncpg."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute(RAW_TABLE)

    async def write(rows: Sequence[tuple[str, ...]]) -> None:
        async with connection.transaction():
            await connection.executemany("INSERT INTO raw VALUES ($1, $2, $3, $4)", rows)

    return grouped(write)


@asynccontextmanager
async def contestants(database: str, folder: Path) -> AsyncIterator[tuple[str, dict[str, Accept]]]:
    """Give the address of a database and who accepts on it."""
    if database == "sqlite":
        url = of_file(folder / "jobs.db")
        raw = {"bare group commit": into_sqlite(folder / "raw.db"), "bare file, fsync": into_file(folder / "raw")}
        async with _ours(url) as accept:
            yield url, {"Darkroom": accept, **raw}
        return
    async with PostgresServer() as server, _ours(server.url) as accept:
        yield server.url, {"Darkroom": accept, "bare group commit": await into_postgres(server.url)}


@asynccontextmanager
async def _ours(url: str) -> AsyncIterator[Accept]:
    await upgrade(url)
    store = open_store(url)
    try:
        yield lambda new: store.accept(new, [charging.confirmation(new)])
    finally:
        await store.close()


async def fill(url: str, wanted: int, there: int) -> None:
    """Put ended jobs with an event each into the tables until so many are there, in bulk."""
    engines = open_engines(url, timeout_s=60.0)
    for first in range(there, wanted, FILL_BATCH):
        count = min(FILL_BATCH, wanted - first)
        old = [new_job(id=_old_id(first + n), state=JobState.CANCELLED, finished_at=1.0) for n in range(count)]
        events = [{"job_id": each.id, "seq": 1, "kind": "queued", "time": 1.0, "payload": {}} for each in old]
        async with engines.write.begin() as connection:
            await connection.execute(insert(jobs), [sql_rows.job_values(each) for each in old])
            await connection.execute(insert(job_events), events)
    await engines.close()


def _old_id(number: int) -> JobId:
    return new_job_id(1_700_000_000.0 + number * 0.001)


async def compare(database: str, options: argparse.Namespace) -> None:
    """Print a table of one database, and how ours grows."""
    with tempfile.TemporaryDirectory() as name:
        async with contestants(database, Path(name)) as (url, accepts):
            for accept in accepts.values():
                await measure(accept, 4, 0.3)
            for concurrency in CONCURRENCY:
                found: dict[str, list[Sample]] = {who: [] for who in accepts}
                for _ in range(options.rounds):
                    for who, accept in accepts.items():
                        found[who].append(await measure(accept, concurrency, options.seconds))
                bare = median([sample.per_s for sample in found["bare group commit"]])
                for who, samples in found.items():
                    print(row(f"{database}, {who}", concurrency, 0, samples, bare), flush=True)
            there = 0
            for rows in options.rows:
                await fill(url, rows, there)
                there = rows
                samples = [await measure(accepts["Darkroom"], 256, options.seconds) for _ in range(options.rounds)]
                print(row(f"{database}, Darkroom", 256, rows, samples, None), flush=True)


def row(who: str, concurrency: int, rows: int, samples: Sequence[Sample], bare: float | None) -> str:
    """Return a line of the table: medians over the rounds."""
    per_s = median([sample.per_s for sample in samples])
    p50, p99 = median([sample.p50_ms for sample in samples]), median([sample.p99_ms for sample in samples])
    share = "" if bare is None else f"{per_s / bare:.2f} ×"
    there = f"{rows:,}" if rows else "what was accepted before"
    return f"| {who} | {concurrency} | {there} | {per_s:.0f} | {p50:.1f} | {p99:.1f} | {share} |"


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


async def main(options: argparse.Namespace) -> None:
    """Print the tables."""
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )
    print(
        f"{options.rounds} rounds of {options.seconds:g} s, taken in turn; SQLite synchronous=FULL, PostgreSQL fsync on\n"
    )
    print("| who | in flight | jobs there | jobs/s | p50 ms | p99 ms | of bare group commit |")
    print("|---|---|---|---|---|---|---|")
    for database in options.databases:
        await compare(database, options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, no million")
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"])
    given = parser.parse_args()
    if given.quick:
        given.rows, given.rounds, given.seconds = [1_000, 10_000], 1, 0.5
    asyncio.run(main(given))
