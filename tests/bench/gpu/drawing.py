"""An engine and the loop that its owner runs, with the moments at which things happened."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from libs.generation.spec import GenerationSpec
from services.modelserver.engine.protocol import Drawing, Request
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.models import ModelFolder

_PATIENCE_S = 400.0

Spec = Callable[[int], GenerationSpec]


@dataclass(slots=True, eq=False)
class Course:
    """What happened to one request; moments in monotonic seconds. A failure is raised."""

    steps_s: list[float] = field(default_factory=list)
    ended_s: float = 0.0
    checkpoint_bytes: list[int] = field(default_factory=list)
    previews: int = 0

    def step(self, step: int, total: int, eta_s: float) -> None:
        """Note the moment."""
        self.steps_s.append(time.monotonic())

    def preview(self, *_about: Any) -> None:
        """Count it."""
        self.previews += 1

    def checkpoint(self, step: int, total: int, data: bytes) -> None:
        """Note its size."""
        self.checkpoint_bytes.append(len(data))

    def stage(self, name: str, start_s: float, end_s: float) -> None:
        """Leave it."""

    def done(self, drawing: Drawing) -> None:
        """Note the moment."""
        self.ended_s = time.monotonic()

    def failed(self, error: Exception, gpu_ms: float = 0.0) -> None:
        """Expect no failure."""
        raise error

    @property
    def between_s(self) -> list[float]:
        """The seconds from each step to the next."""
        return [after - before for before, after in pairwise(self.steps_s)]


class Drawer:
    """Draws with one model of an engine."""

    def __init__(self, engine: StepwiseEngine, folder: ModelFolder) -> None:
        self.engine, self._folder = engine, folder
        self._woken = threading.Event()
        self._numbers = 0
        self._kept: Course | None = None  # of the request that is kept drawing, with the steps of it that were seen
        self._seen = 1
        engine.on_wake(self._woken.set)

    def serve(self, spec: Spec, arrivals: Sequence[float]) -> tuple[float, list[Course]]:
        """Draw requests that arrive so many seconds from now, ascending; returns when that began, and their courses."""
        began_s = time.monotonic()
        courses: list[Course] = []
        while len(courses) < len(arrivals) or not all(course.ended_s for course in courses):
            while len(courses) < len(arrivals) and arrivals[len(courses)] <= time.monotonic() - began_s:
                courses.append(self._admit(spec))
            next_s = began_s + arrivals[len(courses)] if len(courses) < len(arrivals) else None
            self._tick(next_s)
            assert time.monotonic() < began_s + arrivals[-1] + _PATIENCE_S, "it does not come to an end"
        return began_s, courses

    def keep_drawing(self, spec: Spec, enough: Callable[[list[float]], bool]) -> list[float]:
        """Draw one request after the other until that is enough; returns the seconds from step to step.

        The next call goes on with the request that the last one left under way, so that nothing between is missed.
        """
        until_s, between = time.monotonic() + _PATIENCE_S, list[float]()
        while not enough(between):
            if self._kept is None or self._kept.ended_s:
                self._kept, self._seen = self._admit(spec), 1
            self._tick(None)
            moments = self._kept.steps_s
            between += [after - before for before, after in pairwise(moments[self._seen - 1 :])]
            self._seen = max(1, len(moments))
            assert time.monotonic() < until_s, "it does not come to an end"
        return between

    def _admit(self, spec: Spec) -> Course:
        self._numbers += 1
        course = Course()
        self.engine.admit(Request(f"r{self._numbers}", self._folder, spec(self._numbers)), course)
        return course

    def _tick(self, next_s: float | None) -> None:
        if self.engine.tick():
            return
        self._woken.wait(1.0 if next_s is None else min(1.0, max(0.0, next_s - time.monotonic())))
        self._woken.clear()
