"""How true estimates are after 500 mixed jobs of the default model, learned by the price book from the real engine.

    make bench/estimates

Jobs of both sides that the model draws, six numbers of steps, one to four pictures, with guidance and without, one to six in flight: what a
job costs depends on who draws beside it. Each is estimated by the prices in force when it comes, and learned from when
it is done; prices are renewed every 25 jobs. Beside it stands chance: how far apart jobs lie that asked for the very
same, which no estimate can be better than.
"""

from __future__ import annotations

import functools
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from libs.generation.cost import CostTable
from libs.generation.spec import GenerationSpec, SpecRequest, resolve
from services.modelserver.digests import FileDigests
from services.modelserver.engine.batch_table import PAYING, BatchTable
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.protocol import Drawing, Request
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.models import ModelFolder, scan
from services.modelserver.settings import SHIPPED_MODELS
from services.scheduler.pricing.book import PriceBook
from tests.bench.throughput import Silent

THREADS = 1  # as a worker of two cores has
LEARNED, TOLD, RENEWED_EVERY = 500, 500, 25
MOST_S = 500.0  # then what was measured by then is printed
SIDES, STEPS, IMAGES, GUIDANCES = (120, 128), (2, 3, 4, 6, 8, 12), (1, 1, 1, 2, 4), (1.0, 2.5)
GOALS = (0.85, 0.95), 0.15


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job: what it was estimated to cost at the median and in nine of ten cases, and what it cost; milliseconds."""

    shape: tuple[int, int, int, int, bool]
    typical: float
    high: float
    took: float

    @property
    def miss(self) -> float:
        """How far the estimate was off, as a part of the cost."""
        return abs(self.typical - self.took) / self.took


class Reporting(Silent):
    """Tells what one request cost."""

    def __init__(self, over: Callable[[float], None]) -> None:
        super().__init__(lambda: None)
        self._cost = over

    def done(self, drawing: Drawing) -> None:
        """Take the pictures."""
        self._cost(drawing.gpu_ms)


class Stand:
    """The engine and the book beside it."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder, self._book = folder, PriceBook()
        self._engine = StepwiseEngine(
            make_outfit(Device("cpu", THREADS), BatchTable("cpu", gain=PAYING), warms_up=True)
        )
        self._woken = threading.Event()
        self._engine.on_wake(self._woken.set)
        self._rng = random.Random(7)
        self._in_flight = self._number = 0
        self.outcomes: list[Outcome] = []

    def run(self, jobs: int) -> None:
        """Draw jobs one after another and side by side, as many as come in the time."""
        until = time.monotonic() + MOST_S
        while len(self.outcomes) < jobs and time.monotonic() < until:
            at_once = 1 + (self._number // 20) % 6
            while self._in_flight < at_once:
                self._admit()
            if not self._engine.tick():
                self._woken.wait(1.0)
                self._woken.clear()

    def _admit(self) -> None:
        self._number += 1
        self._in_flight += 1
        spec, table = self._spec(), self._book.table
        over = functools.partial(self._over, spec, table)
        self._engine.admit(Request(f"r{self._number}", self._folder, spec), Reporting(over))

    def _over(self, spec: GenerationSpec, told: CostTable, took_ms: float) -> None:
        self._in_flight -= 1
        pinned = self._folder.model.pinned
        shape = (spec.width, spec.height, spec.steps, spec.images, spec.guided)
        self.outcomes.append(Outcome(shape, told.typical_units(spec, pinned), told.units(spec, pinned), took_ms))
        self._book.learn(pinned, "cpu", spec, took_ms)
        if len(self.outcomes) % RENEWED_EVERY == 0:
            for _ in self._book.renew():
                pass

    def _spec(self) -> GenerationSpec:
        choose = self._rng.choice
        request = SpecRequest(
            prompt="a red circle",
            width=choose(SIDES),
            height=choose(SIDES),
            steps=choose(STEPS),
            images=choose(IMAGES),
            guidance_scale=choose(GUIDANCES),
            seed=self._number,
        )
        return resolve(request, self._folder.model, 0)


def chance(outcomes: Sequence[Outcome]) -> float:
    """Return how far jobs are from the median of the others that asked for the same, at the median."""
    alike: dict[object, list[float]] = defaultdict(list)
    for each in outcomes:
        alike[each.shape].append(each.took)
    return statistics.median(
        abs(statistics.median(costs[:n] + costs[n + 1 :]) - took) / took
        for costs in alike.values()
        if len(costs) > 2
        for n, took in enumerate(costs)
    )


def rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, float, float]]:
    """Yield a name of some jobs, the part of them that the p90 covered, and the median of what estimates missed."""
    for start in range(0, len(outcomes), 100):
        some = outcomes[start : start + 100]
        yield f"{start + 1} to {start + len(some)}", *_judged(some)
    if len(outcomes) > LEARNED:
        yield f"all after {LEARNED}", *_judged(outcomes[LEARNED:])


def _judged(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    covered = statistics.mean(each.took <= each.high for each in outcomes)
    return covered, statistics.median(each.miss for each in outcomes)


def main() -> None:
    """Measure and print; the exit status says whether the goals were met."""
    with tempfile.TemporaryDirectory() as place:
        folder = scan([SHIPPED_MODELS], FileDigests(Path(place) / "digests.json"), LibraryClasses())[0]
    stand, began_s = Stand(folder), time.monotonic()
    stand.run(LEARNED + TOLD)
    print(f"{platform.machine()}, {THREADS} threads, torch {torch.__version__}, {folder.model.id}:")
    print(
        f"{len(stand.outcomes)} jobs in {time.monotonic() - began_s:.0f} s\n\n| jobs | p90 covered | median miss |\n|---|---|---|"
    )
    judged = list(rows(stand.outcomes))
    for name, covered, miss in judged:
        print(f"| {name} | {covered:.0%} | {miss:.1%} |")
    print(f"\nJobs that asked for the same differ by {chance(stand.outcomes):.1%} at the median.")
    (least, most), worst = GOALS
    _, covered, miss = judged[-1]
    if len(stand.outcomes) <= LEARNED or not least <= covered <= most or miss > worst:
        sys.exit(f"missed: {least:.0%} to {most:.0%} covered, a median miss of at most {worst:.0%}")


if __name__ == "__main__":
    main()
