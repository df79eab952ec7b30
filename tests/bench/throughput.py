"""Pictures a second of the default model through the engine, beside the bare pipeline and LitServe, in one run.

    make bench/engine

Equal work for all: the same prompts, seeds, steps and guidance scales, eight in flight. The ways are taken in turn,
round after round, so that a change of the machine's speed hits all of them; the table has the medians of the ratios.
LitServe's processes stand still while it is not their turn: waiting, they ask for work ten thousand times a second, and
what they take of two cores slows everybody else by a quarter.
"""

from __future__ import annotations

import asyncio
import functools
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from libs.devstack.ports import free_port
from libs.generation.spec import SpecRequest, resolve
from libs.testing import waiting
from services.modelserver.digests import FileDigests
from services.modelserver.engine.batch_table import PAYING, BatchTable
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.loading import load_model
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.protocol import Drawing, Request
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.models import ModelFolder, scan
from services.modelserver.settings import SHIPPED_MODELS

THREADS, IN_FLIGHT = 2, 8
# Pictures a round, and rounds: short ones find the same machine for all, mixed work needs long ones.
EQUAL, MIXED = (16, 9), (40, 3)
GUIDANCES = (1.5, 2.0, 2.5, 3.0, 4.0)


@dataclass(frozen=True, slots=True)
class Task:
    """One picture to draw."""

    prompt: str
    seed: int
    steps: int
    guidance: float


Way = Callable[[Sequence[Task]], None]


def tasks(pictures: int, *, mixed: bool) -> list[Task]:
    """Return the work of one round; mixed: 14 to 28 steps, five guidance scales, all with guidance."""
    words = ("red circle", "blue square", "green star", "yellow heart")
    return [
        Task(
            prompt=f"a {words[n % len(words)]}",
            seed=n,
            steps=14 + (7 * n) % 15 if mixed else 20,
            guidance=GUIDANCES[n % len(GUIDANCES)] if mixed else 2.5,
        )
        for n in range(pictures)
    ]


class Silent:
    """Takes what the engine says of one request."""

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over

    def step(self, step: int, total: int, eta_s: float) -> None: ...
    def preview(self, *_about: Any) -> None: ...
    def stage(self, name: str, start_s: float, end_s: float) -> None: ...
    def checkpoint(self, step: int, total: int, data: bytes) -> None: ...

    def done(self, drawing: Drawing) -> None:
        """Take the pictures."""
        self._over()

    def failed(self, error: Exception, gpu_ms: float = 0.0) -> None:
        """No failure is expected."""
        raise error


class Engine:
    """The engine with eight requests in flight."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._engine = StepwiseEngine(
            make_outfit(Device("cpu", THREADS), BatchTable("cpu", gain=PAYING), warms_up=True)
        )
        self._woken = threading.Event()
        self._engine.on_wake(self._woken.set)
        self._number = 0

    def draw(self, work: Sequence[Task]) -> None:
        """Draw all, a new one as soon as one is done."""
        left, done = iter(work), 0

        def over() -> None:
            nonlocal done
            done += 1
            admit()

        def admit() -> None:
            task = next(left, None)
            if task is not None:
                self._number += 1
                self._engine.admit(Request(f"r{self._number}", self._folder, self._spec(task)), Silent(over))

        for _ in range(IN_FLIGHT):
            admit()
        while done < len(work):
            if not self._engine.tick():
                self._woken.wait(1.0)
                self._woken.clear()

    def report(self) -> None:
        """Print how long a tick takes, and in what, since it was made."""
        stats = self._engine.stats()
        count = stats.forwards / 1000
        forward_ms, side_ms = stats.seconds / count, stats.side_seconds / count
        rest_ms = stats.tick_seconds / count - forward_ms - side_ms
        print(
            f"\nA tick has {stats.rows / stats.forwards:.1f} rows of {2 * IN_FLIGHT}, and takes {forward_ms:.2f} ms",
            end=" ",
        )
        print(f"in the forward, {side_ms:.2f} ms in encoding and decoding, {rest_ms:.2f} ms", end=" ")
        print(f"({100 * rest_ms / forward_ms:.1f} % of the forward) in all else: samplers, guidance, packing, reports.")

    def _spec(self, task: Task) -> Any:
        request = SpecRequest(prompt=task.prompt, seed=task.seed, steps=task.steps, guidance_scale=task.guidance)
        return resolve(request, self._folder.model, 0)


def bare_singly(pipe: Any, work: Sequence[Task]) -> None:
    """Call the pipeline once a picture."""
    for task in work:
        _call(pipe, [task])


def bare_batched(pipe: Any, work: Sequence[Task]) -> None:
    """Call the pipeline with eight prompts; only for equal steps and guidance."""
    for start in range(0, len(work), IN_FLIGHT):
        _call(pipe, work[start : start + IN_FLIGHT])


def _call(pipe: Any, work: Sequence[Task]) -> None:
    pipe(
        [task.prompt for task in work],
        num_inference_steps=work[0].steps,
        guidance_scale=work[0].guidance,
        generator=[torch.Generator().manual_seed(task.seed) for task in work],
        output_type="np",
    )


@contextmanager
def litserve() -> Iterator[Way]:
    """Run the peer; yields who sends it work from eight callers."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.litserve_peer", str(port), str(THREADS)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True) as process:
        try:
            send = functools.partial(_send, port)
            asyncio.run(waiting.until(lambda: asyncio.to_thread(_is_up, port), within_s=90))
            os.killpg(process.pid, signal.SIGSTOP)
            with ThreadPoolExecutor(IN_FLIGHT) as callers:
                yield functools.partial(_send_all, process.pid, callers, send)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started


def _send_all(group: int, callers: ThreadPoolExecutor, send: Callable[[Task], None], work: Sequence[Task]) -> None:
    os.killpg(group, signal.SIGCONT)
    for _ in callers.map(send, work):
        pass
    os.killpg(group, signal.SIGSTOP)


def _send(port: int, task: Task) -> None:
    body = f'{{"prompt": "{task.prompt}", "seed": {task.seed}, "steps": {task.steps}, "guidance": {task.guidance}}}'
    url = f"http://127.0.0.1:{port}/predict"
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except OSError:
        return False


def measure(ways: dict[str, Way], work: Sequence[Task], rounds: int) -> dict[str, list[float]]:
    """Return pictures a second of each way, a value a round."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(work[:IN_FLIGHT])  # so that nobody pays for a cold start
    for round_number in range(rounds):
        names = [*ways][round_number % len(ways) :] + [*ways][: round_number % len(ways)]
        for name in names:
            began_s = time.perf_counter()
            ways[name](work)
            rates[name].append(len(work) / (time.perf_counter() - began_s))
    return rates


def report(title: str, rates: dict[str, list[float]]) -> None:
    """Print one table; ratios are of the engine against the others, round by round."""
    print(f"\n{title}\n\n| way | pictures/s | engine against it |\n|---|---|---|")
    for name, values in rates.items():
        ratios = [mine / theirs for mine, theirs in zip(rates["engine"], values, strict=True)]
        print(f"| {name} | {statistics.median(values):.2f} | {statistics.median(ratios):.2f} × |")


def main() -> None:
    """Measure and print."""
    print(
        f"{platform.machine()}, {THREADS} threads, torch {torch.__version__}, rounds of {EQUAL[0]} and {MIXED[0]} pictures"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = scan([SHIPPED_MODELS], FileDigests(Path(place) / "digests.json"), LibraryClasses())[0]
    engine = Engine(folder)
    pipe = load_model(folder, torch.float32, lambda _share: None).pipe
    with litserve() as peer:
        equal: dict[str, Way] = {"engine": engine.draw, "bare, one at a time": functools.partial(bare_singly, pipe)}
        equal["bare, static batch of 8"] = functools.partial(bare_batched, pipe)
        equal["LitServe, batches of 8"] = peer
        report("Equal: 20 steps, one guidance scale", measure(equal, tasks(EQUAL[0], mixed=False), EQUAL[1]))
        mixed = {name: way for name, way in equal.items() if "static" not in name}
        report("Mixed: 14 to 28 steps, five guidance scales", measure(mixed, tasks(MIXED[0], mixed=True), MIXED[1]))
    engine.report()


if __name__ == "__main__":
    main()
