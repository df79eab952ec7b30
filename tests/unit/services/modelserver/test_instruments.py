"""The series of a worker: each that is listed has a value, and what an engine counts arrives whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from libs.generation.attempt import StageDone
from libs.ids import JobId, WorkerId
from libs.telemetry import metrics, tracing
from services.modelserver import instruments
from services.modelserver.attempt import Attempt, Order
from services.modelserver.engine.reasons import Reason, Unbatched
from services.modelserver.engine.stats import EngineStats, Occupancy
from services.modelserver.events import Progress
from services.modelserver.fake_nvml import FakeNvml
from services.modelserver.gpu import THROTTLES, Gpu, open_gpu
from tests.unit.services.modelserver.bench import SPEC

METRICS = Path(__file__).parents[4] / "docs" / "metrics.md"


class Engine:
    """Counts what a test tells it."""

    def __init__(self) -> None:
        self.now = EngineStats()

    def memory_bytes(self) -> int:
        return 5

    def stats(self) -> EngineStats:
        return self.now


class Scrape:
    """What a Prometheus sees of a worker."""

    def observe(self, engine: object, gpu: Gpu | None = None) -> None:
        instruments.observe_worker(WorkerId("w"), engine, lambda: 2, gpu)  # type: ignore[arg-type]

    def text(self) -> str:
        return generate_latest(REGISTRY).decode()

    def value(self, series: str, **labels: str) -> float:
        samples = (sample for family in text_string_to_metric_families(self.text()) for sample in family.samples)
        wanted = {**labels, "worker": "w"}.items()
        (found,) = [sample.value for sample in samples if sample.name == series and wanted <= sample.labels.items()]
        return found


@pytest.fixture
def scrape(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scrape]:
    provider = MeterProvider(metric_readers=[PrometheusMetricReader()])
    monkeypatch.setattr(metrics, "meter", lambda: provider.get_meter("test"))
    yield Scrape()
    provider.shutdown()


def listed() -> set[str]:
    rows = re.findall(r"^\| `(darkroom_\w+)` \| modelserver \|", METRICS.read_text(), re.M)
    return set(rows) - {"darkroom_stage_seconds"}  # a stage makes that one, not a worker


def test_every_listed_series_is_there_from_the_start(scrape: Scrape) -> None:
    scrape.observe(Engine(), open_gpu("GPU-1", FakeNvml()))
    text = scrape.text()
    missing = {name for name in listed() if not re.search(rf"^{name}[{{ ]", text, re.M)}
    assert missing <= {"darkroom_batch_rows"}  # a histogram has no value before the first forward
    assert len(listed()) > 15


def test_what_an_engine_counts_arrives_whole(scrape: Scrape, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, unbatched, occupancy = Engine(), Unbatched(), Occupancy()
    scrape.observe(engine)
    unbatched.count(Reason.OTHER_SIZE, 3)
    for rows in (1, 16, 16, 40):
        occupancy.count(rows)
    engine.now = EngineStats(
        ticks=9, forwards=4, swaps=2, embedding_hits=5, occupancy=occupancy.totals(), unbatched=unbatched.totals()
    )
    for _ in range(2):  # a second look counts nothing twice
        assert scrape.value("darkroom_batch_rows_count") == 4
    assert scrape.value("darkroom_batch_rows_sum") == 73
    assert scrape.value("darkroom_batch_rows_bucket", le="16") == 3
    assert scrape.value("darkroom_batch_not_shared_total", reason="other_size") == 3
    assert scrape.value("darkroom_batch_not_shared_total", reason="alone") == 0
    assert scrape.value("darkroom_prompt_embeddings_total", result="hit") == 5
    assert scrape.value("darkroom_swaps_total") == 2
    monkeypatch.setattr(instruments, "_MOST_REPLAYED", 10)
    engine.now = EngineStats(occupancy={1: 29})
    assert scrape.value("darkroom_batch_rows_count") == 14
    assert scrape.value("darkroom_batch_rows_count") == 24


def test_a_throttled_gpu_is_told_by_reason(scrape: Scrape) -> None:
    nvml = FakeNvml(clock_reasons=THROTTLES["hw_thermal_slowdown"])
    scrape.observe(Engine(), open_gpu("GPU-1", nvml))
    assert scrape.value("darkroom_gpu_throttled", reason="hw_thermal_slowdown") == 1
    assert scrape.value("darkroom_gpu_throttled", reason="sw_power_cap") == 0
    assert scrape.value("darkroom_gpu_sm_clock_hertz") == 1.98e9


def test_a_cpu_has_no_series_of_a_gpu(scrape: Scrape) -> None:
    plain: Any = SimpleNamespace(memory_bytes=lambda: 5, stats=EngineStats)
    scrape.observe(plain)
    assert "darkroom_gpu" not in scrape.text()
    assert scrape.value("darkroom_worker_memory_bytes", kind="device") == 5
    assert scrape.value("darkroom_ticks_total") == 0


def test_each_stage_of_drawing_tells_the_steps_that_ended_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, tuple[tuple[str, float], ...]]] = []
    monkeypatch.setattr(tracing, "record", lambda name, _s, _e, _t, events, **_: told.append((name, tuple(events))))
    recorder = instruments.StageRecorder()
    attempt = Attempt(Order(JobId("j"), 1, 1, "m@1", SPEC), Context(), recorder.record)
    for event in (
        StageDone("encode", 0.0, 1.0),
        Progress(1, 3, 0.0, 2.0),
        Progress(2, 3, 0.0, 3.0),
        StageDone("denoise", 1.0, 3.0),  # it was parked
        Progress(3, 3, 0.0, 9.0),
        StageDone("denoise", 8.0, 9.0),
    ):
        attempt.post(event)
    assert told == [("encode", ()), ("denoise", (("step 1", 2.0), ("step 2", 3.0))), ("denoise", (("step 3", 9.0),))]
