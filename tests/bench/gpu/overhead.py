"""Parts `checkpoint` and `preview`: what they add to a step, the same requests drawn with and without in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from services.modelserver.checkpoints import CheckpointPolicy
from tests.bench.gpu.drawing import Course, Drawer
from tests.bench.gpu.report import print_table
from tests.bench.gpu.sized_models import SizedModel
from tests.bench.gpu.stand import Stand, spec_maker, unwritten


@dataclass(slots=True, eq=False)
class Due:
    """Says that every step is due for a checkpoint, or none."""

    every_step: bool = False

    def __call__(self, step: int, total: int, since_s: float, eta_s: float) -> bool:
        """Answer the engine."""
        return self.every_step


@dataclass(frozen=True, slots=True)
class Compared:
    """Seconds a step without and with it, and what was drawn with it."""

    without_s: float
    with_s: float
    courses: list[Course]


def measure_checkpoints(stand: Stand) -> None:
    """Print what a checkpoint costs."""
    usual = CheckpointPolicy().every_steps // 2
    rows = []
    for model in stand.models:
        due = Due()
        for name, compared in _cases(stand, model, due, preview=False):
            extra_s = compared.with_s - compared.without_s
            sizes = [size for course in compared.courses for size in course.checkpoint_bytes]
            share = 100 * extra_s / compared.without_s
            rows.append(
                (
                    *_times(name, compared),
                    f"{share:.1f} %",
                    f"{share / usual:.2f} %",
                    f"{statistics.mean(sizes) / 1e3:.0f}",
                )
            )
    header = f"{_HEADER} | of a step | of the steps, one in {usual} | kB each"
    print_table("A checkpoint of every drawing after every step, against none", header, rows)


def measure_previews(stand: Stand) -> None:
    """Print what previews cost."""
    rows = []
    for model in stand.models:
        for name, compared in _cases(stand, model, Due(), preview=True):
            share = 100 * (compared.with_s / compared.without_s - 1)
            shown = sum(course.previews for course in compared.courses)
            rows.append((*_times(name, compared), f"{share:.1f} %", shown))
    print_table("Previews as often as they are shown, against none", f"{_HEADER} | of the steps | previews", rows)


_HEADER = "drawn | ms a step without | with | more"


def _times(name: str, compared: Compared) -> tuple[str, ...]:
    without_ms, with_ms = 1000 * compared.without_s, 1000 * compared.with_s
    return name, f"{without_ms:.2f}", f"{with_ms:.2f}", f"{with_ms - without_ms:.2f}"


def _cases(stand: Stand, model: SizedModel, due: Due, *, preview: bool) -> list[tuple[str, Compared]]:
    """Draw one at a time at each size, and four beside each other at the smallest."""
    small, large = stand.scale.sizes[0], stand.scale.sizes[-1]
    sizes = [(small, 1), (small, 4), (large, 1)] if model.id == "sdxl" else [(large, 1)]
    engine, found = stand.engine(due=due), []
    try:
        drawer = Drawer(engine, unwritten(model))
        for size, beside in sizes:

            def draw(*, wanted: bool, size: int = size, beside: int = beside) -> list[Course]:
                due.every_step = wanted and not preview
                spec = spec_maker(unwritten(model), size, stand.scale.steps, preview=wanted and preview)
                return drawer.serve(spec, [0.0] * beside)[1]

            found.append((f"{model.title}, {size} × {size}, {beside} at a time", _compared(stand, draw)))
    finally:
        engine.close()
        stand.device.release()
    return found


def _compared(stand: Stand, draw: Callable[..., list[Course]]) -> Compared:
    draw(wanted=True)  # pays for what is made only once
    seconds: dict[bool, list[float]] = {False: [], True: []}
    drawn: list[Course] = []
    for number in range(stand.scale.rounds):
        for wanted in (number % 2 == 0, number % 2 == 1):
            courses = draw(wanted=wanted)
            seconds[wanted].append(statistics.mean(s for course in courses for s in course.between_s))
            drawn += courses if wanted else []
    return Compared(statistics.median(seconds[False]), statistics.median(seconds[True]), drawn)
