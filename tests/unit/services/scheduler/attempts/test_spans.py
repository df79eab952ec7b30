"""A job's spans continue its trace, a retry links to the attempt before it, and no prompt is in them."""

from __future__ import annotations

import dataclasses

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from libs.clients.modelserver import AttemptFailed
from libs.generation.attempt import FailureKind
from libs.telemetry import tracing
from tests.unit.services.scheduler.fakes import Bench, pictures, record

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "tracer", lambda: provider.get_tracer("test"))
    return exporter


async def test_two_attempts_of_one_trace(spans: InMemorySpanExporter) -> None:
    bench = Bench()
    async with bench.running():
        waiting = await bench.submit(traceparent=f"00-{TRACE}-{SPAN}-01")
        await bench.clock.advance(4.0)
        during: list[str] = []

        def script(order):
            during.append(tracing.current_traceparent())
            return [AttemptFailed(FailureKind.DRAINING, "DRAINING", "")] if order.attempt == 1 else pictures(order)

        await bench.workers(record(), record("w1"), script=script)
        attempts = await bench.store.attempts((await bench.now(waiting.id)).id)
    finished = spans.get_finished_spans()
    assert [span.name for span in finished] == ["queue", "attempt", "queue", "attempt"]
    assert {f"{span.context.trace_id:032x}" for span in finished} == {TRACE}
    first, second = (span for span in finished if span.name == "attempt")
    assert [f"{link.context.span_id:016x}" for link in second.links] == [f"{first.context.span_id:016x}"]
    assert first.links == ()
    assert during == [attempt.traceparent for attempt in attempts]
    assert dict(second.attributes or {}) == {
        "job_id": waiting.id,
        "attempt": 2,
        "worker": "w1",
        "model": "shapes@v1",
    }
    queued = finished[0]
    assert queued.start_time is not None
    assert queued.end_time == queued.start_time + 4_000_000_000
    assert dataclasses.asdict(waiting)["spec"]["prompt"] not in "".join(span.to_json() for span in finished)
