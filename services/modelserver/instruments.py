"""Spans and series of the model server. Every series is in docs/metrics.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from libs.generation.attempt import StageDone
from libs.ids import WorkerId
from libs.telemetry import metrics, tracing
from services.modelserver import memory
from services.modelserver.attempt import Attempt
from services.modelserver.engine.protocol import Engine
from services.modelserver.engine.reasons import Reason
from services.modelserver.engine.stats import EngineStats
from services.modelserver.gpu import THROTTLES, Gpu, Reading

ROWS_EDGES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_MOST_REPLAYED = 10_000  # about what a busy device does between two collections; keeps a late one short
Observe = Callable[[CallbackOptions], Iterable[Observation]]


class StageRecorder:
    """Writes each stage of an attempt as a span of its trace and into a histogram; of the prompt only the length.

    The span of `denoise` has an event at the end of each step, by the device's own word.
    """

    def __init__(self) -> None:
        self._seconds = metrics.seconds_histogram("darkroom_stage_seconds", "Time in one stage of an attempt")

    def record(self, attempt: Attempt, stage: StageDone) -> None:
        """Take a stage that is over."""
        order = attempt.order
        self._seconds.record(max(0.0, stage.end_s - stage.start_s), {"stage": stage.name, "model": order.pinned})
        tracing.record(
            stage.name,
            stage.start_s,
            stage.end_s,
            attempt.trace,
            _steps_in(attempt, stage) if stage.name == "denoise" else (),
            job_id=order.job_id,
            attempt=order.attempt,
            model=order.pinned,
            steps=order.spec.steps,
            images=order.spec.images,
            size=f"{order.spec.width}x{order.spec.height}",
            prompt_length=len(order.spec.prompt),
        )


def _steps_in(attempt: Attempt, stage: StageDone) -> list[tuple[str, float]]:
    """Return the steps that ended within a stage: one that is parked has several."""
    within = (step for step in attempt.steps() if stage.start_s <= step.drawn_at <= stage.end_s)
    return [(f"step {step.step}", step.drawn_at) for step in within]


def observe_worker(worker_id: WorkerId, engine: Engine, rows_in_use: Callable[[], int], gpu: Gpu | None) -> None:
    """Register the gauges of this process; each is read when somebody collects."""
    meter = metrics.meter()
    labels: dict[str, str] = {"worker": worker_id}
    _gauge(meter, "darkroom_worker_rows_in_use", "Attempts that draw now", "", rows_in_use, labels)
    process = {**labels, "kind": "process"}
    device = {**labels, "kind": "device"}

    def observe_memory(_options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(memory.process_bytes(), process)
        yield Observation(engine.memory_bytes(), device)

    told = "Memory of the process, and of the device in use by it"
    meter.create_observable_gauge("darkroom_worker_memory_bytes", [observe_memory], unit="By", description=told)
    if gpu is not None:
        _observe_gpu(meter, gpu, labels)
    _observe_engine(meter, engine.stats, labels)


def _observe_engine(meter: Meter, stats: Callable[[], EngineStats], labels: dict[str, str]) -> None:
    """Register what an engine counts by itself; each series has a value from the start, but for the histogram."""
    counters: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
        ("darkroom_ticks_total", "Passes of the engine's loop that did something", lambda now: now.ticks),
        ("darkroom_tick_seconds_total", "Time in those passes", lambda now: now.tick_seconds),
        ("darkroom_forward_seconds_total", "Time in forwards of denoisers", lambda now: now.seconds),
        ("darkroom_oom_splits_total", "Batches made smaller because memory did not suffice", lambda now: now.splits),
        ("darkroom_parks_total", "Requests taken off the device", lambda now: now.parks),
        ("darkroom_resumes_total", "Parked requests that went on", lambda now: now.resumes),
        ("darkroom_checkpoints_total", "Checkpoints handed over", lambda now: now.checkpoints),
        ("darkroom_swaps_total", "Models brought into the device's memory", lambda now: now.swaps),
    )
    for name, told, pick in counters:
        meter.create_observable_counter(name, [_counted(stats, pick, labels)], description=told)

    def not_shared(_options: CallbackOptions) -> Iterable[Observation]:
        rows = stats().unbatched
        return [Observation(rows.get(reason, 0), {**labels, "reason": reason.value}) for reason in Reason]

    def embeddings(_options: CallbackOptions) -> Iterable[Observation]:
        now = stats()
        yield Observation(now.embedding_hits, {**labels, "result": "hit"})
        yield Observation(now.embedding_misses, {**labels, "result": "miss"})

    told = "Rows that waited and did not share the forward that ran"
    meter.create_observable_counter("darkroom_batch_not_shared_total", [not_shared], description=told)
    told = "Prompts to encode, by whether they were remembered"
    meter.create_observable_counter("darkroom_prompt_embeddings_total", [embeddings], description=told)
    told, replay = "Forwards of denoisers", _Replay(meter, stats, labels)
    meter.create_observable_counter("darkroom_forwards_total", [replay.observe], description=told)


class _Replay:
    """Puts forwards that were counted by rows into a histogram, whenever somebody collects; at most _MOST_REPLAYED at
    a time, the rest at the next.
    """

    def __init__(self, meter: Meter, stats: Callable[[], EngineStats], labels: dict[str, str]) -> None:
        told = "Rows in a forward; a row is one image and one guidance branch"
        edges = list(ROWS_EDGES)
        self._rows = meter.create_histogram("darkroom_batch_rows", "", told, explicit_bucket_boundaries_advisory=edges)
        self._stats, self._labels = stats, labels
        self._replayed: dict[int, int] = {}

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Bring the histogram up to date and tell the number of forwards."""
        now, left = self._stats(), _MOST_REPLAYED
        for rows, forwards in now.occupancy.items():
            fresh = min(left, forwards - self._replayed.get(rows, 0))
            for _ in range(fresh):
                self._rows.record(rows, self._labels)
            self._replayed[rows] = self._replayed.get(rows, 0) + fresh
            left -= fresh
        return [Observation(now.forwards, self._labels)]


def _counted(stats: Callable[[], EngineStats], pick: Callable[[EngineStats], float], labels: dict[str, str]) -> Observe:
    return lambda _options: [Observation(pick(stats()), labels)]


def _observe_gpu(meter: Meter, gpu: Gpu, labels: dict[str, str]) -> None:
    series: tuple[tuple[str, str, str, Callable[[Reading], float | None]], ...] = (
        ("utilisation_ratio", "Share of time in which a kernel ran", "1", lambda now: now.utilisation_ratio),
        ("memory_used_bytes", "Memory of the GPU in use by all", "By", lambda now: now.memory_used_bytes),
        ("temperature_celsius", "Temperature of the GPU", "Cel", lambda now: now.temperature_celsius),
        ("power_watts", "Power drawn by the GPU", "W", lambda now: now.power_watts),
        ("sm_clock_hertz", "Clock of the GPU's processors", "Hz", lambda now: now.sm_clock_hertz),
    )
    for name, told, unit, pick in series:
        _gauge(meter, f"darkroom_gpu_{name}", told, unit, _reader(gpu, pick), labels)

    def observe_throttles(_options: CallbackOptions) -> Iterable[Observation]:
        held = gpu.read().throttle
        if held is not None:
            yield from (Observation(int(name in held), {**labels, "reason": name}) for name in THROTTLES)

    told = "1 while this holds the GPU's clocks down"
    meter.create_observable_gauge("darkroom_gpu_throttled", [observe_throttles], description=told)


def _reader(gpu: Gpu, pick: Callable[[Reading], float | None]) -> Callable[[], float | None]:
    return lambda: pick(gpu.read())


def _gauge(
    meter: Meter, name: str, told: str, unit: str, value: Callable[[], float | None], labels: dict[str, str]
) -> None:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        now = value()
        return [] if now is None else [Observation(now, labels)]

    meter.create_observable_gauge(name, [observe], unit=unit, description=told)
