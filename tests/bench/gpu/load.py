"""Part `load`: requests at 1.2 times what one at a time can serve, to the engine and to the bare pipeline.

The same requests at the same moments, drawn in each way one after the other. The bare pipeline serves them as they
came: singly, or as many as wait in one call, up to as many pictures as the batch table says to pay. Since all ask for
the same size, steps and guidance, this is the most that static batching can do.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.modelserver.engine.arguments import call_arguments
from services.modelserver.engine.batch_table import BatchTable
from services.modelserver.engine.batcher import table_key_of
from services.modelserver.engine.device import Device
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.protocol import DeviceLost, Request
from services.modelserver.models import ModelFolder
from tests.bench.gpu.drawing import Drawer, Spec
from tests.bench.gpu.report import print_table, quantile
from tests.bench.gpu.stand import Stand, spec_maker, unwritten

OVERLOAD = 1.2
_MOST_STATIC = 16  # pictures in one call of the bare pipeline
_SAMPLES = 3  # pictures drawn singly to know what serial drawing can serve


@dataclass(frozen=True, slots=True)
class Served:
    """How requests fared. Latencies are from arrival to pictures."""

    latencies_s: list[float]
    span_s: float  # from the first arrival to the last picture

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return len(self.latencies_s) / self.span_s


def poisson(count: int, rate: float, seed: int) -> list[float]:
    """Return moments of arrival in seconds, the first at 0, `rate` a second on average."""
    noise = random.Random(seed)
    moments = [0.0]
    while len(moments) < count:
        moments.append(moments[-1] + noise.expovariate(rate))
    return moments


def measure(stand: Stand) -> None:
    """Print a table for each size of pictures of the SDXL-sized model."""
    model = stand.model("sdxl")
    if model is None:
        return
    table = BatchTable(stand.device.info.id)
    engine = stand.engine(table, warms_up=True)
    try:
        drawer = Drawer(engine, unwritten(model))
        pipe = model.build(stand.device.torch, stand.device.dtype(""))
        for size in stand.scale.sizes:
            bare = Bare(stand.device, pipe, unwritten(model), spec_maker(unwritten(model), size, stand.scale.steps))
            title, rows = _of_size(stand, bare, drawer, table)
            title = f"{model.title}, {size} × {size}, {stand.scale.steps} steps with guidance. {title}"
            print_table(title, "way | pictures/s | p50 s | p95 s | all at once, pictures/s", rows)
    finally:
        engine.close()


class Bare:
    """The pipeline without an engine, on the same device."""

    def __init__(self, device: Device, pipe: Any, folder: ModelFolder, spec: Spec) -> None:
        self._device, self._pipe, self._folder, self.spec = device, pipe, folder, spec

    def request(self, number: int) -> Request:
        """Return a request."""
        return Request(f"r{number}", self._folder, self.spec(number))

    def picture_s(self) -> float:
        """Return what a picture takes that is drawn alone."""
        self._draw([0])
        return statistics.median(self.serve([0.0], 1).span_s for _ in range(_SAMPLES))

    def fitting(self, pictures: int) -> int:
        """Return how many pictures, at most `pictures`, one call can draw."""
        while True:
            try:
                self._draw(range(pictures))
            except (RuntimeError, MemoryError) as error:
                if pictures == 1 or isinstance(as_failure(error), DeviceLost):
                    raise
                pictures //= 2
            else:
                return pictures
            self._device.release()

    def serve(self, arrivals: Sequence[float], most: int) -> Served:
        """Draw requests that arrive so many seconds from now, in their order, in calls of up to `most`."""
        began_s, begun = time.monotonic(), 0
        latencies: list[float] = []
        while begun < len(arrivals):
            now_s = time.monotonic() - began_s
            here = sum(moment <= now_s for moment in arrivals)
            if here == begun:
                threading.Event().wait(arrivals[begun] - now_s)
                continue
            taken = range(begun, min(here, begun + most))
            self._draw(taken)
            ended_s = time.monotonic() - began_s
            latencies += [ended_s - arrivals[number] for number in taken]
            begun = taken.stop
        return Served(latencies, ended_s)

    def _draw(self, numbers: Sequence[int]) -> None:
        requests = [self.request(number) for number in numbers]
        self._pipe(**call_arguments(self._pipe, requests, lambda *_: {}))
        self._device.wait()


def _of_size(stand: Stand, bare: Bare, drawer: Drawer, table: BatchTable) -> tuple[str, list[tuple[str, ...]]]:
    serial_s = bare.picture_s()
    least, most = stand.scale.requests
    count, rate = min(most, max(least, round(stand.scale.load_s / serial_s))), OVERLOAD / serial_s
    arrivals, burst = poisson(count, rate, stand.seed), [0.0] * (count // 2)
    _by_engine(drawer, bare.spec, burst)  # measures the size and makes what is made only once
    paying = table.room(table_key_of(bare.request(0), "denoise"), 2 * _MOST_STATIC)  # two rows a picture
    together = bare.fitting(max(1, paying // 2))
    ways: dict[str, Callable[[Sequence[float]], Served]] = {
        "engine": lambda moments: _by_engine(drawer, bare.spec, moments),
        "bare, one at a time": lambda moments: bare.serve(moments, 1),
        f"bare, static batches of up to {together}": lambda moments: bare.serve(moments, together),
    }
    title = (
        f"One alone takes {serial_s:.3f} s; {count} requests at {rate:.2f}/s, {OVERLOAD} × what serial drawing can serve;"
        f" {len(burst)} all at once"
    )
    return title, [_row(name, serve(arrivals), serve(burst)) for name, serve in ways.items()]


def _by_engine(drawer: Drawer, spec: Spec, arrivals: Sequence[float]) -> Served:
    began_s, courses = drawer.serve(spec, arrivals)
    ended = [course.ended_s - began_s for course in courses]
    return Served([end - arrival for end, arrival in zip(ended, arrivals, strict=True)], max(ended))


def _row(name: str, loaded: Served, burst: Served) -> tuple[str, ...]:
    p50_s, p95_s = (quantile(loaded.latencies_s, share) for share in (0.5, 0.95))
    return name, f"{loaded.rate:.3f}", f"{p50_s:.2f}", f"{p95_s:.2f}", f"{burst.rate:.3f}"
