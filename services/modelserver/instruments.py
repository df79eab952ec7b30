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
from services.modelserver.gpu import Gpu, Reading

Observe = Callable[[CallbackOptions], Iterable[Observation]]


class StageRecorder:
    """Writes each stage of an attempt as a span of its trace and into a histogram; of the prompt only the length."""

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
            job_id=order.job_id,
            attempt=order.attempt,
            model=order.pinned,
            steps=order.spec.steps,
            images=order.spec.images,
            size=f"{order.spec.width}x{order.spec.height}",
            prompt_length=len(order.spec.prompt),
        )


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


def _observe_gpu(meter: Meter, gpu: Gpu, labels: dict[str, str]) -> None:
    series: tuple[tuple[str, str, str, Callable[[Reading], float | None]], ...] = (
        ("utilisation_ratio", "Share of time in which a kernel ran", "1", lambda now: now.utilisation_ratio),
        ("memory_used_bytes", "Memory of the GPU in use by all", "By", lambda now: now.memory_used_bytes),
        ("temperature_celsius", "Temperature of the GPU", "Cel", lambda now: now.temperature_celsius),
        ("power_watts", "Power drawn by the GPU", "W", lambda now: now.power_watts),
    )
    for name, told, unit, pick in series:
        _gauge(meter, f"darkroom_gpu_{name}", told, unit, _reader(gpu, pick), labels)


def _reader(gpu: Gpu, pick: Callable[[Reading], float | None]) -> Callable[[], float | None]:
    return lambda: pick(gpu.read())


def _gauge(
    meter: Meter, name: str, told: str, unit: str, value: Callable[[], float | None], labels: dict[str, str]
) -> None:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        now = value()
        return [] if now is None else [Observation(now, labels)]

    meter.create_observable_gauge(name, [observe], unit=unit, description=told)
