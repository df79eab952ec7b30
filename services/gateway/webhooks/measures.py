"""The series of webhooks; listed in docs/metrics.md."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from libs.clients.deliveries import Outcome, Result

_DEAD = "dead"


class WebhookMeasures:
    """What is counted of deliveries."""

    def __init__(self, meter: Meter) -> None:
        self._tries = meter.create_counter("darkroom_webhooks_total", description="Tries of webhook deliveries.")
        self._waiting = meter.create_gauge("darkroom_webhooks_waiting", description="Deliveries that are not over.")

    def of(self, source: str) -> SourceMeasures:
        """Return what is counted of those from one source."""
        return SourceMeasures(self, source)

    def add(self, count: int, source: str, outcome: str, reason: str = "") -> None:
        """Count tries."""
        self._tries.add(count, {"source": source, "outcome": outcome, "reason": reason})

    def waiting(self, deliveries: int, source: str) -> None:
        """Note how many are not over."""
        self._waiting.set(deliveries, {"source": source})


class SourceMeasures:
    """What is counted of deliveries from one source."""

    def __init__(self, measures: WebhookMeasures, source: str) -> None:
        self._measures, self._source = measures, source
        for outcome in (*(outcome.value.lower() for outcome in Outcome), _DEAD):
            measures.add(0, source, outcome)

    def tried(self, result: Result) -> None:
        """Count a try, or that there was none."""
        self._measures.add(1, self._source, result.outcome.value.lower(), result.reason)

    def given_up(self) -> None:
        """Count a delivery that is not tried any more, beside its last try."""
        self._measures.add(1, self._source, _DEAD)

    def waiting(self, deliveries: int) -> None:
        """Note how many are not over."""
        self._measures.waiting(deliveries, self._source)
