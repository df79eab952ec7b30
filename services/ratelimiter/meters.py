"""The series this service owns; docs/metrics.md lists them."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from services.ratelimiter.balances.refusal import Denial
from services.ratelimiter.balances.reservation import Step
from services.ratelimiter.usage.book import Settlement


class Meters:
    """Counters, labelled with nothing that grows with the number of tenants."""

    def __init__(self, meter: Meter) -> None:
        self._units = meter.create_counter(
            "darkroom_units_charged", unit="{unit}", description="Units charged at settlement."
        )
        self._decisions = meter.create_counter(
            "darkroom_limit_decisions", unit="{decision}", description="Reservations decided, by the binding limit."
        )
        self._errors = meter.create_counter(
            "darkroom_errors", unit="{error}", description="Refusals at the door, by reason."
        )
        self._tiers_wrong = meter.create_gauge(
            "darkroom_tiers_wrong", description="Whether the file of the tiers is wrong and was not taken."
        )
        self._told = meter.create_counter(
            "darkroom_tenant_events", unit="{event}", description="Events that tenants should know of, by kind."
        )
        self._told.add(0, {"kind": "usage_threshold"})  # so that the series is there before the first

        self._ledger_away = meter.create_gauge(
            "darkroom_ledger_away", description="Whether limits are decided by a share, because the ledger is away."
        )
        self._alone = meter.create_counter(
            "darkroom_answers_alone", unit="{answer}", description="Answers that the ledger is told of later, by step."
        )
        self.ledger_away(away=False)
        self._alone.add(0, {"step": Step.RESERVE.value})

    def decided(self, tier: str, denial: Denial | None) -> None:
        """Count a reservation that was admitted or denied."""
        decision, dimension = ("denied", denial.dimension.value) if denial else ("admitted", "none")
        self._decisions.add(1, {"decision": decision, "dimension": dimension, "tier": tier})

    def charged(self, settlement: Settlement) -> None:
        """Count what a job was charged."""
        labels = {"tier": settlement.hold.tier, "model": settlement.model_version, "outcome": settlement.outcome}
        self._units.add(max(0.0, settlement.charged_units), labels)

    def refused(self, reason: str) -> None:
        """Count a caller who was not let in."""
        self._errors.add(1, {"reason": reason})

    def ledger_away(self, *, away: bool) -> None:
        """Say whether the ledger is left alone."""
        self._ledger_away.set(1 if away else 0)

    def answered_alone(self, step: Step) -> None:
        """Count an answer that the journal keeps."""
        self._alone.add(1, {"step": step.value})

    def tiers_read(self, *, good: bool) -> None:
        """Say whether the file of the tiers could be taken as it lies there."""
        self._tiers_wrong.set(0 if good else 1)

    def told_tenant(self, kind: str) -> None:
        """Count an event of a tenant that is new."""
        self._told.add(1, {"kind": kind})
