"""How long a device was given work, by whichever of its threads: what two of them do at once counts once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Busy:
    """Adds up while anybody is `working`. `now` tells monotonic seconds; callable from every thread."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._working = 0
        self._since_s = self._before_s = 0.0

    @property
    def seconds(self) -> float:
        """What it comes to by now, with what is still under way."""
        with self._lock:
            return self._before_s + (self._now() - self._since_s if self._working else 0.0)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count until the end of the context."""
        with self._lock:
            if not self._working:
                self._since_s = self._now()
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    self._before_s += self._now() - self._since_s
