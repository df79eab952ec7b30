"""The one thread that reads models from their files while the device draws.

It takes a single thread of torch for itself and leaves the others theirs: conversions of gigabytes must not take the
cores from a CPU that draws. (A lower priority would be worse than none: a thread that holds Python's lock and is not
let run stops everybody.) A load cannot be interrupted, but whoever reads tells how far it is, and learns there that
nobody wants the model any more.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.protocol import Cancelled, EngineFailure

logger = logging.getLogger(__name__)

T = TypeVar("T")
Tell = Callable[[float], None]  # share that is done, 0 to 1


@dataclass(frozen=True, slots=True, eq=False)
class Read(Generic[T]):
    """What came of a load; one of `value` and `error` is None."""

    pinned: str
    value: T | None
    error: Exception | None
    seconds: float


class LoadThread(Generic[T]):
    """Loads in the order of `put`. All but `_serve` and below belongs to the device thread; `shares` to everybody."""

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float]) -> None:
        self._wake = wake
        self._clock = clock
        self._work: queue.SimpleQueue[tuple[str, Callable[[Tell], T]] | float | None] = queue.SimpleQueue()
        self._read: deque[Read[T]] = deque()
        self._shares: dict[str, float] = {}
        self._dropped: set[str] = set()
        self._lock = threading.Lock()  # of the two before
        self._closed = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="load", daemon=True)
        threads = torch.get_num_threads()
        self._thread.start()
        self._ready.wait()
        torch.set_num_threads(threads)  # the thread's own number is also what torch gives to threads yet to come

    def put(self, pinned: str, load: Callable[[Tell], T]) -> None:
        """Load it when those before are done."""
        with self._lock:
            self._shares[pinned] = 0.0
            self._dropped.discard(pinned)
        self._work.put((pinned, load))

    def drop(self, pinned: str) -> None:
        """End a load at the next occasion; it ends with an error, unless it is too late."""
        with self._lock:
            self._dropped.add(pinned)

    def remind(self, after_s: float) -> None:
        """Call `wake` once after that time; a later call takes its place."""
        self._work.put(float(after_s))

    def results(self) -> Iterator[Read[T]]:
        """Yield what has come since."""
        while self._read:
            yield self._read.popleft()

    def shares(self) -> Mapping[str, float]:
        """Return how far the loads are, 0 to 1, those that wait included."""
        with self._lock:
            return dict(self._shares)

    def close(self) -> None:
        """End the thread; a load under way ends at the next occasion."""
        self._closed = True
        self._work.put(None)
        self._thread.join()

    def _serve(self) -> None:
        torch.get_num_threads()  # makes torch take its number of threads for this thread now, and not after the next line
        torch.set_num_threads(1)
        self._ready.set()
        due_s: float | None = None
        while True:
            try:
                work = self._work.get(timeout=None if due_s is None else max(0.0, due_s - time.monotonic()))
            except queue.Empty:
                due_s = None
                self._wake()
                continue
            if work is None:
                return
            if isinstance(work, float):
                due_s = time.monotonic() + work
            else:
                self._load(*work)

    def _load(self, pinned: str, load: Callable[[Tell], T]) -> None:
        began_s = self._clock()
        value: T | None = None
        error: Exception | None = None
        try:
            self._tell(pinned, 0.0)
            value = load(lambda share: self._tell(pinned, share))
        except EngineFailure as failure:
            error = failure
        except Exception as raised:  # the thread is owned here and must outlive any fault of a library
            logger.warning("load failed unexpectedly", exc_info=raised, extra={"model": pinned})
            error = as_failure(raised)
        with self._lock:
            self._shares.pop(pinned, None)
        self._read.append(Read(pinned, value, error, self._clock() - began_s))
        self._wake()

    def _tell(self, pinned: str, share: float) -> None:
        with self._lock:
            if self._closed or pinned in self._dropped:
                raise Cancelled("the model is not wanted any more")
            self._shares[pinned] = share
