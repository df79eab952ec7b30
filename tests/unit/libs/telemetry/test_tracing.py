"""What is asked again and again leaves no traces, here or at the peers it calls."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider

from libs.telemetry import tracing


def test_nothing_is_traced_inside_the_block_and_peers_are_told() -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracing.untraced():
        assert not tracer.start_span("a poll").is_recording()
        assert tracing.current_traceparent().endswith("-00")
    assert tracer.start_span("a job").is_recording()
    assert tracing.current_traceparent() == ""
