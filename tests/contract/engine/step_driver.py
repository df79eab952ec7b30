"""Drives a Engine as its owner does: tick while there is something to do, else wait to be woken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from services.modelserver.engine.protocol import Drawing, Engine, Pixels, Request

_PATIENCE_S = 30.0
_MOST_TICKS = 10_000


class Said:
    """Keeps what an engine says about one request."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.stages: list[tuple[str, float, float]] = []
        self.previews: list[tuple[int, int, int, tuple[int, ...]]] = []
        self.checkpoints: list[tuple[int, bytes]] = []
        self.ends: list[Drawing | Exception] = []
        self.after_the_end: list[str] = []

    def step(self, step: int, total: int, eta_s: float) -> None:
        assert eta_s >= 0
        self._note("step")
        self.steps.append((step, total))

    def preview(self, step: int, total: int, index: int, pixels: Pixels) -> None:
        self._note("preview")
        self.previews.append((step, total, index, pixels.shape))

    def stage(self, name: str, start_s: float, end_s: float) -> None:
        self._note("stage")
        self.stages.append((name, start_s, end_s))

    def checkpoint(self, step: int, total: int, data: bytes) -> None:
        self._note("checkpoint")
        self.checkpoints.append((step, data))

    def done(self, drawing: Drawing) -> None:
        self._note("done")
        self.ends.append(drawing)

    def failed(self, error: Exception, gpu_ms: float = 0.0) -> None:
        self._note("failed")
        self.ends.append(error)

    @property
    def over(self) -> bool:
        return bool(self.ends)

    @property
    def pictures(self) -> tuple[Pixels, ...]:
        """The pictures; what went wrong is raised."""
        (end,) = self.ends
        if isinstance(end, Exception):
            raise end
        return end.pictures

    def _note(self, what: str) -> None:
        if self.ends:
            self.after_the_end.append(what)


class Driver:
    """Owns an engine. Numbers its requests."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._woken = threading.Event()
        self._count = 0
        engine.on_wake(self._woken.set)

    def admit(self, folder: Any, spec: Any, **more: Any) -> tuple[str, Said]:
        """Hand a request in; returns its id and what is said about it."""
        self._count += 1
        request_id, said = f"r{self._count}", Said()
        self.engine.admit(Request(request_id, folder, spec, **more), said)
        return request_id, said

    def until(self, is_so: Callable[[], bool]) -> None:
        """Tick until it is so."""
        for _ in range(_MOST_TICKS):
            if is_so():
                return
            self._woken.clear()
            if not self.engine.tick() and not is_so():
                assert self._woken.wait(_PATIENCE_S), "it has work, and neither ticks nor wakes"
        raise AssertionError("too many ticks")

    def finish(self, *said: Said) -> None:
        """Tick until all of these are over."""
        self.until(lambda: all(one.over for one in said))

    def draw(self, folder: Any, spec: Any, **more: Any) -> tuple[Pixels, ...]:
        """Draw one request to its end."""
        _, said = self.admit(folder, spec, **more)
        self.finish(said)
        return said.pictures
