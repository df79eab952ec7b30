"""An event loop in which time is made up and the order of what is ready is drawn from a seed.

When nothing is ready, time jumps to the next timer. Of what is ready a random part runs, in random order, so that a
seed stands for one of the many ways in which concurrent code may interleave; the same seed gives the same way.
There are no sockets, threads or signals in it.

Code belongs to a process, a name that tasks inherit from whoever starts them (`process_named`). A process that is
paused takes no step, like one that was sent SIGSTOP: what becomes ready for it waits until it goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import random
from collections import deque
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

START_S = 1_700_000_000.0  # the Unix time at which every simulation begins
_PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="")


class Stuck(Exception):
    """Nothing is ready and no timer is set: everybody waits for somebody."""


@contextmanager
def process_named(name: str) -> Iterator[None]:
    """Let tasks that are started in the block belong to a process."""
    token = _PROCESS.set(name)
    try:
        yield
    finally:
        _PROCESS.reset(token)


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop of one seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._passed_s = 0.0
        self._paused: set[str] = set()
        self._ready: deque[Any] = deque()
        self._held: list[Any] = []  # handles of paused processes
        self._selector = _Jump(self)
        self._numbers = itertools.count()
        self.set_task_factory(self._numbered)

    def time(self) -> float:
        """Return the seconds that have passed in the simulation."""
        return self._passed_s

    def pause(self, process: str) -> None:
        """Let a process take no step."""
        self._paused.add(process)

    def go_on(self, process: str) -> None:
        """Let a process go on; what it missed is ready now."""
        self._paused.discard(process)
        held, self._held = self._held, []
        self._ready.extend(held)

    def jump(self, seconds: float | None) -> None:
        """Let time pass up to the next timer. Raises Stuck when there is none."""
        if seconds is None:
            raise Stuck("nothing is ready and no timer is set")
        self._passed_s += seconds

    def _run_once(self) -> None:
        ready = list(self._ready)
        self._held += [handle for handle in ready if self._is_paused(handle)]
        ready = [handle for handle in ready if not self._is_paused(handle)]
        self._random.shuffle(ready)
        now = self._random.randint(1, len(ready)) if ready else 0
        self._ready = deque(ready[:now])
        try:
            super()._run_once()  # type: ignore[misc]
        finally:
            self._ready.extend(ready[now:])

    def _is_paused(self, handle: Any) -> bool:
        return bool(self._paused) and handle._context.get(_PROCESS, "") in self._paused

    def _numbered(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T], **given: Any
    ) -> asyncio.Task[T]:
        return _Task(next(self._numbers), coroutine, loop=loop, **given)

    def _process_events(self, _events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""


class _Task(asyncio.Task[T]):
    """A task with a number for its hash: sets of tasks must have the same order whenever a seed runs."""

    def __init__(self, number: int, coroutine: Any, **given: Any) -> None:
        self._number = number
        super().__init__(coroutine, **given)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Jump:
    """Takes the place of a selector."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None or timeout > 0:
            self._loop.jump(timeout)
        return []


class SimulatedClock:
    """The loop's time as a Clock."""

    def now(self) -> float:
        """Return Unix seconds."""
        return START_S + self.monotonic()

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait in the simulation; real time does not pass."""
        await asyncio.sleep(seconds)


def simulate(seed: int, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the loop of a seed; the shared random numbers are those of the seed meanwhile."""
    before = random.getstate()
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=lambda: SimulatedLoop(seed)) as runner:
            return runner.run(main)
    finally:
        random.setstate(before)
