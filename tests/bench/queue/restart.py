"""Rebuilding memory from a database of open jobs, in a process of its own, as a scheduler does that starts."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert, make_url

from libs.clock import Clock, SystemClock
from libs.sql.addresses import is_sqlite
from libs.sql.engines import postgres_engine
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.instruments import Instruments
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.replicas.lead import Lead
from services.scheduler.storage.sql_schema import jobs as table
from services.scheduler.storage.sql_store import open_store
from tests.bench.queue.core import START_S, resident_bytes, rows, tenants_of

_AT_ONCE = 2000
_BEAT_S = 0.005
Row = dict[str, float]


async def fill(url: str, size: int) -> None:
    """Make the tables and put waiting jobs into them."""
    await upgrade(url)
    some = rows(size, tenants_of(size), START_S)
    if is_sqlite(url):
        _fill_file(make_url(url).database or "", some)
        return
    engine = postgres_engine(url, 60.0)
    async with engine.begin() as connection:
        while page := list(itertools.islice(some, _AT_ONCE)):
            await connection.execute(insert(table), page)
    await engine.dispose()


def _fill_file(path: str, some: Any) -> None:
    names = [column.name for column in table.columns]
    statement = f"INSERT INTO jobs ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    connection = sqlite3.connect(path)
    connection.executemany(statement, ([_plain(row.get(name)) for name in names] for row in some))
    connection.commit()
    connection.close()


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


async def measure(url: str) -> Row:
    """Rebuild; return seconds, jobs, the memory it took at most and what stays, and the longest stall of the loop."""
    store, clock = open_store(url), SystemClock()
    await store.ping()
    memory = OpenJobs(WatchHub(store, clock), Instruments(), clock)
    before = resident_bytes()
    beats = asyncio.create_task(_beat(clock))
    began, cpu = time.perf_counter(), time.process_time()
    await Reconciler(store, memory, clock, Lead(1)).recover()
    took = {"seconds": time.perf_counter() - began, "cpu s": time.process_time() - cpu}
    count, after = len(memory.ordering), resident_bytes()
    beats.cancel()
    (stall_s,) = await asyncio.gather(beats, return_exceptions=True)
    assert isinstance(stall_s, float)
    await store.close()
    extra = {"jobs": count, "bytes a job": (after - before) / count, "peak over end": _peak_bytes() / after}
    return took | extra | {"longest stall ms": stall_s * 1e3}


async def _beat(clock: Clock) -> float:
    """Return how much too late the loop came round at worst, once it is told to stop."""
    worst = 0.0
    try:
        while True:
            asked = time.perf_counter()
            await clock.sleep(_BEAT_S)
            worst = max(worst, time.perf_counter() - asked - _BEAT_S)
    except asyncio.CancelledError:
        return worst


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
