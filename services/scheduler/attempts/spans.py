"""A job's part in its trace: the time in the queue, and one span an attempt, linked to the attempt before it."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.trace import Span

from libs.ids import WorkerId
from libs.telemetry import tracing
from services.scheduler.job import AttemptRecord, Job


def begin_attempt(job: Job, worker: WorkerId, earlier: Sequence[AttemptRecord]) -> tuple[Span, str]:
    """Begin the span of a job's next attempt; returns it with its traceparent."""
    span = tracing.tracer().start_span(
        "attempt",
        context=tracing.context_of(job.traceparent),
        links=tracing.link_to(earlier[-1].traceparent) if earlier else [],
        attributes={"job_id": job.id, "attempt": job.attempt + 1, "worker": worker, "model": job.model_version},
    )
    with trace.use_span(span):
        return span, tracing.current_traceparent()


def take_up_attempt(attempt: AttemptRecord) -> Span:
    """Begin the span of an attempt that runs since an earlier leader, under the span that it has had."""
    return tracing.tracer().start_span(
        "attempt taken up",
        context=tracing.context_of(attempt.traceparent),
        attributes={"job_id": attempt.job_id, "attempt": attempt.attempt, "worker": attempt.worker},
    )


def record_queue(job: Job, began_at: float) -> None:
    """Write the span of the time that a started job waited for this attempt."""
    tracing.record(
        "queue",
        job.queued_at,
        began_at,
        tracing.context_of(job.traceparent),
        job_id=job.id,
        attempt=job.attempt,
        tier=job.tier,
    )
