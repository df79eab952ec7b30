"""The highest rate at which jobs go through a thousand workers: `make bench/mesh`.

    python -m tests.bench.mesh [--workers 10 100 1000] [--rates 25 50 …] [--postgres] [--quick] [--profile FILE]

A real scheduler process with a real database, a real etcd, and simulated workers in two processes that speak the real
protocol (mesh_parts/workers.py): each has a port, a record and a lease of its own. This process submits, at random
moments, whatever became of the jobs before. Twelve models by Zipf's law, three fit on a worker; fifty tenants, three
tiers; a picture is eight steps. Rates are tried upwards until one is not kept up with.

Dispatch is measured from when the job's commit and a free row for it were both known in the scheduler until the worker
has the order. A rate is kept up with when as many jobs end in the window as come in it, and 99 of 100 are dispatched
within 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from libs.clock import SystemClock
from tests.bench.mesh_parts import cpu
from tests.bench.mesh_parts.load import Sent, offer
from tests.bench.mesh_parts.mesh import Mesh, Plan, running

CLOCK = SystemClock()
RATES = (25, 50, 75, 100, 125, 150, 200, 250, 300, 400)
LIMIT_MS, KEPT_UP = 20.0, 0.95
WARM_UP_S, WINDOW_S, DRAIN_S = 3.0, 8.0, 20.0
BUSY, LONGEST_S = 0.6, 2.0  # share of the rows that is to be busy; a picture takes at most so long
PARTS = ("scheduler", "workers", "etcd", "postgres", "load")


@dataclass(slots=True)
class Seen:
    """What was noted about jobs and workers."""

    moments: dict[str, dict[str, float]] = field(default_factory=dict)  # by kind, then job
    row_freed: dict[str, list[float]] = field(default_factory=dict)  # by worker
    workers: dict[str, str] = field(default_factory=dict)  # who got a job

    def take(self, mesh: Mesh) -> None:
        """Read what is new."""
        for note in mesh.notes.news():
            self.moments.setdefault(note.kind, {})[note.job] = note.at_s
            if note.kind == "F":
                self.row_freed.setdefault(note.worker, []).append(note.at_s)
            if note.kind == "S":
                self.workers[note.job] = note.worker

    def dispatch_ms(self, job: str) -> float | None:
        """Return how long a job's order took from when it could be given; None when it never came."""
        came = self.moments.get("X", {}).get(job)
        known, begun = self.moments.get("A", {}).get(job), self.moments.get("S", {}).get(job)
        if came is None or known is None or begun is None:
            return None
        freed = max((at for at in self.row_freed.get(self.workers[job], ()) if at <= begun), default=known)
        return 1000 * (came - max(known, freed))


@dataclass(frozen=True, slots=True)
class Row:
    """One rate, measured."""

    per_s: float
    ended_per_s: float
    kept_up: bool
    p50_ms: float
    p99_ms: float
    accept_p99_ms: float
    busy: dict[str, float]  # cores, by part

    def show(self, count: int) -> str:
        """Return a line of the table."""
        cells = [f"{self.busy.get(part, 0.0):.2f}" for part in PARTS if part in self.busy or part != "postgres"]
        per_job_ms = 1000 * self.busy.get("scheduler", 0.0) / max(1.0, self.ended_per_s)
        numbers = f"{self.per_s:.0f} | {self.ended_per_s:.0f} | {self.p50_ms:.1f} | {self.p99_ms:.1f}"
        kept = "yes" if self.kept_up else "no"
        return f"| {count} | {numbers} | {self.accept_p99_ms:.0f} | {' | '.join(cells)} | {per_job_ms:.1f} | {kept} |"


async def measure(mesh: Mesh, per_s: float, seed: int) -> Row:
    """Offer a rate, and look at its window."""
    draws_s = min(LONGEST_S, BUSY * mesh.plan.count * mesh.plan.rows / per_s)
    offering = asyncio.create_task(offer(mesh, per_s, WARM_UP_S + WINDOW_S, draws_s, seed))
    await CLOCK.sleep(WARM_UP_S)
    began, before = time.monotonic(), cpu.used_s(mesh.pids)
    await CLOCK.sleep(WINDOW_S)
    after, ended = cpu.used_s(mesh.pids), time.monotonic()
    sent = await offering
    seen = await _all_ended(mesh, sent)
    lasted = ended - began
    busy = {part: (after[part] - before.get(part, 0.0)) / lasted for part in PARTS if part in after}
    return _row(per_s, sent, seen, (began, ended), busy)


async def _all_ended(mesh: Mesh, sent: Sent) -> Seen:
    """Wait until every job has ended, for a while."""
    seen, until = Seen(), time.monotonic() + DRAIN_S
    while time.monotonic() < until:
        await CLOCK.sleep(0.5)
        seen.take(mesh)
        if sent.acked_s.keys() <= seen.moments.get("E", {}).keys():
            break
    return seen


def _row(per_s: float, sent: Sent, seen: Seen, window: tuple[float, float], busy: dict[str, float]) -> Row:
    began, ended = window
    jobs = [job for job, at in sent.sent_s.items() if began <= at < ended]
    over = [job for job, at in seen.moments.get("E", {}).items() if began <= at < ended]
    dispatch = [ms if (ms := seen.dispatch_ms(job)) is not None else 1000 * DRAIN_S for job in jobs]
    accepts = [1000 * (sent.acked_s.get(job, ended + DRAIN_S) - sent.sent_s[job]) for job in jobs]
    p99 = quantile(dispatch, 0.99)
    kept_up = len(over) >= KEPT_UP * len(jobs) and p99 < LIMIT_MS and not sent.failed
    rate = len(over) / (ended - began)
    return Row(per_s, rate, kept_up, quantile(dispatch, 0.5), p99, quantile(accepts, 0.99), busy)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of them stay below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def search(plan: Plan, rates: Sequence[float]) -> float:
    """Print a row for each rate until two in a row were not kept up with; returns the highest that was."""
    highest, missed = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        async with running(plan, Path(folder)) as mesh:
            print(f"<!-- {plan.count} workers known after {time.monotonic() - began:.1f} s -->", flush=True)
            for number, per_s in enumerate(rates):
                row = await measure(mesh, per_s, seed=1 + 1_000_000 * number)
                print(row.show(plan.count), flush=True)
                highest, missed = (row.ended_per_s, 0) if row.kept_up else (highest, missed + 1)
                if missed == 2:
                    break
    return highest


async def main(options: argparse.Namespace) -> None:
    """Print a table."""
    logging.disable()
    database = "PostgreSQL, synchronous_commit on" if options.postgres else "SQLite, synchronous=FULL"
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {database}\n")
    parts = [part for part in PARTS if options.postgres or part != "postgres"]
    heads = " | ".join(f"{part} cores" for part in parts)
    print(
        f"| workers | offered/s | ended/s | dispatch p50 ms | p99 ms | accept p99 ms | {heads} | scheduler ms/job | kept up |"
    )
    print("|" + "---|" * (8 + len(parts)))
    found = {}
    for count in options.workers:
        plan = Plan(count, postgres=options.postgres, profile=options.profile)
        found[count] = await search(plan, options.rates)
    print("\n" + ", ".join(f"{count} workers: {rate:.0f} jobs/s" for count, rate in found.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--quick", action="store_true", help="ten workers and two rates")
    parser.add_argument("--profile", default="", help="where to write where the scheduler spent its time")
    given = parser.parse_args()
    if given.quick:
        given.workers, given.rates = [10], [20.0, 50.0]
    asyncio.run(main(given))
