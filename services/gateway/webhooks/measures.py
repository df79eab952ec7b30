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
        for outcome in (*(outcome.value.lower() for outcome in Outcome), _DEAD):
            self._tries.add(0, {"outcome": outcome, "reason": ""})

    def tried(self, result: Result) -> None:
        """Count a try, or that there was none."""
        self._tries.add(1, {"outcome": result.outcome.value.lower(), "reason": result.reason})

    def given_up(self) -> None:
        """Count a delivery that is not tried any more, beside its last try."""
        self._tries.add(1, {"outcome": _DEAD, "reason": ""})

    def waiting(self, deliveries: int) -> None:
        """Note how many are not over."""
        self._waiting.set(deliveries)
