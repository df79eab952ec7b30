"""Every series of the scheduler, after one job that succeeded and one that failed."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

from libs.clients.modelserver import AttemptFailed
from libs.generation.attempt import FailureKind
from libs.telemetry import metrics
from tests.unit.services.scheduler.fakes import Bench, record, silence


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(metrics, "meter", lambda: provider.get_meter("test"))
    return reader


def read(reader: InMemoryMetricReader) -> dict[tuple[str, ...], float]:
    data = reader.get_metrics_data()
    assert data is not None
    values: dict[tuple[str, ...], float] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            labels = tuple(str(value) for _, value in sorted((point.attributes or {}).items()))
            if isinstance(point, HistogramDataPoint):
                values[metric.name, *labels] = point.count
            elif isinstance(point, NumberDataPoint):
                values[metric.name, *labels] = point.value
    return values


async def test_what_ended_what_waits_and_who_works(reader: InMemoryMetricReader) -> None:
    bench = Bench()
    async with bench.running():
        await bench.workers(record(rows=3))
        await bench.submit()
        (server,) = bench.servers.values()
        server.script = lambda order: [AttemptFailed(FailureKind.INVALID, "INVALID_DIMENSIONS", "no")]
        await bench.submit(tier="a tier of the operator")
        server.script = silence
        await bench.submit()
        await bench.submit(tier="free", model_version="flux@v9")
        await bench.clock.advance(7.0)
        values = read(reader)
    expected: dict[tuple[str, ...], float] = {
        ("darkroom_scheduler_leads",): 1,
        ("darkroom_jobs_total", "shapes", "succeeded", "pro"): 1,
        ("darkroom_jobs_total", "shapes", "failed", "other"): 1,
        ("darkroom_job_seconds", "shapes", "succeeded", "pro"): 1,
        ("darkroom_attempts_total", "succeeded", ""): 1,
        ("darkroom_attempts_total", "failed", "INVALID_DIMENSIONS"): 1,
        ("darkroom_errors_total", "INVALID_DIMENSIONS"): 1,
        ("darkroom_stage_seconds", "shapes", "queue"): 3,
        ("darkroom_outbox_total", "confirm", "delivered"): 4,
        ("darkroom_outbox_total", "settle", "delivered"): 2,
        ("darkroom_queue_depth", "free"): 1,
        ("darkroom_queue_depth", "pro"): 0,
        ("darkroom_queue_oldest_age_seconds", "free"): 7.0,
        ("darkroom_queue_oldest_age_seconds", "enterprise"): 0.0,
        ("darkroom_workers", "busy"): 1,
        ("darkroom_workers", "idle"): 0,
        ("darkroom_worker_rows", "used", "modelserver-0"): 1,
        ("darkroom_worker_rows", "free", "modelserver-0"): 2,
        ("darkroom_needed_workers",): 2,
        ("darkroom_needed_workers", "flux@v9"): 1,
        ("darkroom_needed_workers", "shapes@v1"): 1,
        ("darkroom_queued_gpu_seconds",): 0.3,
        ("darkroom_eta_promises_total", "yes", "free"): 0,
        ("darkroom_eta_promises_total", "no", "free"): 0,
    }
    assert {key: values.get(key) for key in expected} == expected
