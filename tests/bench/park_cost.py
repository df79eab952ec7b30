"""What it costs the real engine to park a drawing and to go on with it: the default model on a CPU.

    python -m tests.bench.park_cost

Two drawings share every tick. One is parked at a step in the middle: its row is free when the call returns. Later it
goes on beside the other one; what that tick takes longer than the others is the cost, in which the way back to its
step is gone and its state put in place. Or meanwhile its model is let go, and with it the words that were encoded.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.generation.spec import SpecRequest, resolve
from services.modelserver.digests import FileDigests
from services.modelserver.engine.batch_table import PAYING, BatchTable
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.protocol import Drawing, Request
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.models import ModelFolder, scan
from services.modelserver.settings import SHIPPED_MODELS

THREADS, ROUNDS = 1, 9
STEPS, AT = 30, 15  # of a drawing, and the one after which it is parked
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class ParkCost:
    """Medians, in seconds."""

    step_s: float  # a tick that both drawings share
    park_s: float  # until the row is free, once the step under way has ended
    resume_s: float  # that the tick takes longer in which it goes on
    evicted_s: float  # the same when its model was let go meanwhile, beside the load
    load_s: float  # until the model is back

    @property
    def steps(self) -> float:
        """What parking and going on cost together, in steps of all rows."""
        return (self.park_s + self.resume_s) / self.step_s

    @property
    def evicted_steps(self) -> float:
        """The same when its model was let go meanwhile; loads are counted elsewhere."""
        return (self.park_s + self.evicted_s) / self.step_s


class _Said:
    """What the engine said of one drawing."""

    def __init__(self) -> None:
        self.at = 0

    def step(self, step: int, total: int, eta_s: float) -> None:
        """Note the step."""
        self.at = step

    def preview(self, *_about: Any) -> None: ...
    def stage(self, name: str, start_s: float, end_s: float) -> None: ...
    def checkpoint(self, step: int, total: int, data: bytes) -> None: ...
    def done(self, drawing: Drawing) -> None: ...
    def failed(self, error: Exception, gpu_ms: float = 0.0) -> None: ...


class _Device:
    """The engine, and the seconds that its ticks take."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self.engine = StepwiseEngine(make_outfit(Device("cpu", THREADS), BatchTable("cpu", gain=PAYING), warms_up=True))
        self._woken = threading.Event()
        self.engine.on_wake(self._woken.set)

    def admit(self, name: str, seed: int) -> _Said:
        """Begin a drawing."""
        asked = SpecRequest(prompt="a red circle", seed=seed, steps=STEPS)
        said = _Said()
        self.engine.admit(Request(name, self._folder, resolve(asked, self._folder.model, 0)), said)
        return said

    def until(self, is_so: Callable[[], bool]) -> list[float]:
        """Tick until something holds; returns what each tick took."""
        taken: list[float] = []
        while not is_so():
            began_s = time.perf_counter()
            if self.engine.tick():
                taken.append(time.perf_counter() - began_s)
            else:
                self._woken.wait(_WAIT_S)
                self._woken.clear()
        return taken

    def let_go(self) -> None:
        """Let the model go, which nobody draws with."""
        assert self.engine.evict(self._folder.model.pinned)


def measure(rounds: int = ROUNDS) -> ParkCost:
    """Return what parking costs."""
    with tempfile.TemporaryDirectory() as place:
        (folder,) = scan((SHIPPED_MODELS,), FileDigests(Path(place) / "digests.json"), LibraryClasses())
    device = _Device(folder)
    try:
        _round(device, 0)  # loads, measures what pays
        near = [_round(device, number) for number in range(1, rounds + 1)]
        far = [_evicted(device, number) for number in range(1, rounds + 1)]
    finally:
        device.engine.close()
    step_s, park_s, resume_s = (statistics.median(column) for column in zip(*near, strict=True))
    evicted_s, load_s = (statistics.median(column) for column in zip(*far, strict=True))
    return ParkCost(step_s, park_s, resume_s, evicted_s, load_s)


def _round(device: _Device, number: int) -> tuple[float, float, float]:
    """Park one of two and let it go on: what a step takes, the call, and the tick more than a step."""
    victim, other = device.admit("victim", number), device.admit("other", 100 + number)
    device.until(lambda: victim.at >= 3 and other.at >= 3)
    step_s = statistics.median(device.until(lambda: victim.at >= AT))
    park_s = _parked_in(device)
    device.until(lambda: other.at >= AT + 3)
    at = victim.at
    device.engine.resume("victim")
    taken = device.until(lambda: victim.at > at)
    for name in ("victim", "other"):
        device.engine.cancel(name)
    return step_s, park_s, sum(taken) - step_s * len(taken)


def _evicted(device: _Device, number: int) -> tuple[float, float]:
    """Park one, let its model go, and let it go on: what the ticks took more than a step, and the load."""
    victim = device.admit("victim", number)
    device.until(lambda: victim.at >= 3)
    step_s = statistics.median(device.until(lambda: victim.at >= AT))
    _parked_in(device)
    device.let_go()
    at, began_s = victim.at, time.perf_counter()
    device.engine.resume("victim")
    taken = sum(device.until(lambda: victim.at > at))
    whole_s = time.perf_counter() - began_s
    device.engine.cancel("victim")
    return max(0.0, taken - step_s), whole_s - taken


def _parked_in(device: _Device) -> float:
    began_s = time.perf_counter()
    assert device.engine.park("victim")
    return time.perf_counter() - began_s


def report(cost: ParkCost) -> None:
    """Print what was measured."""
    print(
        f"Default model, CPU, {THREADS} thread, two drawings of {STEPS} steps, parked after step {AT}; medians of ms\n"
    )
    print("| a step of both | park: row free after | go on | in steps | go on after its model left | in steps | load |")
    print("|---|---|---|---|---|---|---|")
    near = f"{1000 * cost.resume_s:.1f} | {cost.steps:.2f}"
    far = f"{1000 * cost.evicted_s:.1f} | {cost.evicted_steps:.2f} | {1000 * cost.load_s:.0f}"
    print(f"| {1000 * cost.step_s:.1f} | {1000 * cost.park_s:.2f} | {near} | {far} |\n")


if __name__ == "__main__":
    report(measure())
