"""Jobs that wait for a load, and loads, on recorded traces with a queue: LRU in arrival order against the scheduler.

    python -m tests.bench.placement [--fresh 10]

One device with room for 3 of 12 models (model_traces.py) and one row, on a virtual clock. The queue is never shorter
than QUEUED jobs until the trace ends: it is filled up from the trace in its order, whatever the times there. Order,
seats, demand and preloading are the scheduler's own; who leaves for a job whose model must come is the engine's own
decision. One load at a time, at 1 GB/s, beside drawing. A job waited for a load when its row was given to it before its
model was there, also when the load had been begun ahead of it and was not through.

LRU serves the same jobs in the order of arrival; each of its loads is waited for. Beside it, what those need that know
the whole trace: in the order of arrival; in the order that is strictly fair to the tenants; and in any order of those
queued at a time, which lets jobs wait for ever (placement_limits.py).

Tenants: one; ten, each job of any of them by chance, so that the order of arrival keeps a model's jobs together and a
fair one cannot; ten, each run of jobs of one model by one of them. `--fresh` takes that many other seeds of each trace.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.bench.model_traces import MODELS, RECIPES, Trace, record, traces
from tests.bench.placement_limits import QUEUED, any_order
from tests.bench.placement_town import ONE, TEN, TEN_OF_RUNS, Owners, Run, Town
from tests.bench.residency import POLICIES, fewest_loads
from tests.bench.residency import Device as LruDevice


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a trace, over the loads of LRU."""

    name: str
    lru: int
    ours: Run
    reordered: Run | None = None

    @property
    def waited(self) -> float:
        """Jobs that waited for a load."""
        return self.ours.waited / self.lru

    @property
    def loads(self) -> float:
        """Loads, those ahead too."""
        return self.ours.all_loads / self.lru

    def shares(self) -> str:
        """Return by what fewer jobs wait than with LRU: the order, and preloading."""
        saved = self.lru - self.ours.waited
        by_order = (self.lru - self.reordered.waited) / saved if self.reordered and saved else math.nan
        return f"{by_order:.0%} / {1 - by_order:.0%}"


def measure(trace: Trace, owners: Owners, *, whole: bool = False) -> Result:
    """Serve a trace by LRU and by ours; `whole`, also without preloading."""
    lru = len(LruDevice(trace, POLICIES["LRU"]()).serve().loads)
    reordered = Town(trace, owners, preloading=False).serve() if whole else None
    return Result(trace.name, lru, Town(trace, owners).serve(), reordered)


def _row(trace: Trace, owners: Owners) -> tuple[str, Result]:
    result = measure(trace, owners, whole=True)
    ours, lru, reordered = result.ours, result.lru, result.reordered
    fair = Town(trace, owners, preloading=False, reordering=False).serve().served
    limits = [fewest_loads(trace), fewest_loads(replace(trace, arrivals=tuple(fair))), any_order(trace)]
    cells = [
        f"{lru} | {ours.waited} | {ours.loads} + {ours.preloads} | {result.waited:.2f} | {result.loads:.2f}",
        f"{reordered.waited / lru if reordered else math.nan:.2f} | {result.shares()} | {ours.longest_wait_s:.0f}",
        " | ".join(f"{limit / lru:.2f}" for limit in limits),
    ]
    return f"| {trace.name} | {' | '.join(cells)} |", result


def _worst(results: Sequence[Result]) -> str:
    found = [max(results, key=lambda result: result.waited), max(results, key=lambda result: result.loads)]
    return f"waited {found[0].waited:.2f} × LRU ({found[0].name}), loads {found[1].loads:.2f} × LRU ({found[1].name})"


def _fresh(count: int) -> None:
    """Print the worst of other seeds than those that are shown and those that constants were chosen on."""
    for owners in (ONE, TEN, TEN_OF_RUNS):
        print(
            f"\n{owners.name}, {count} other seeds of each trace\n\n| trace | waited, worst | loads, worst |\n|---|---|---|"
        )
        for recipe in RECIPES:
            seeds = [replace(recipe, seed=recipe.seed + 1000 * (11 + k)) for k in range(count)]
            results = [measure(record(seed), owners) for seed in seeds]
            worst = f"{max(each.waited for each in results):.2f} | {max(each.loads for each in results):.2f}"
            print(f"| {recipe.name} | {worst} |", flush=True)


def main() -> None:
    """Print a table for each kind of tenants."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fresh", type=int, default=0, help="take so many other seeds of each trace instead")
    fresh = parser.parse_args().fresh
    told = f"{MODELS} models, {QUEUED} jobs queued"
    print(f"{platform.machine()}, Python {sys.version.split()[0]}; {told}; a simulation, the same on every machine")
    if fresh:
        _fresh(fresh)
        return
    heads = "LRU | waited | loads: for waiting jobs + ahead | waited / LRU | all loads / LRU | waited / LRU without "
    heads += "preloading | share of order / preloading | longest wait s | optimum / LRU: by arrival | strictly fair | any order"
    for owners in (ONE, TEN, TEN_OF_RUNS):
        rows = [_row(trace, owners) for trace in traces()]
        print(f"\n{owners.name}\n\n| trace | {heads} |\n|---|{'---|' * 11}")
        print(*[row for row, _ in rows], sep="\n")
        print(f"\nworst: {_worst([result for _, result in rows])}")


if __name__ == "__main__":
    main()
