"""Deliveries of webhooks, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from libs.ids import JobId
from libs.webhooks.shares import Claim, Shares
from libs.webhooks.tries import Fate
from services.scheduler.job import Job
from services.scheduler.storage.changes import NewEvent
from services.scheduler.webhooks import deliveries
from services.scheduler.webhooks.store import Delivery, Report


class MemoryDeliveries:
    """The part of the memory store that webhooks are delivered from."""

    _deliveries: dict[tuple[JobId, int], Delivery]

    async def claim_deliveries(self, claim: Claim) -> list[Delivery]:
        """Lease deliveries that are due."""
        due = [
            (delivery.due_at, key)
            for key, delivery in self._deliveries.items()
            if delivery.due_at is not None and delivery.due_at <= claim.now
        ]
        shares, sorted_keys = Shares(claim), [key for _, key in sorted(due)]
        keys = [key for key in sorted_keys if shares.take(self._deliveries[key].tenant_id, self._deliveries[key].host)]
        for key in keys:
            self._deliveries[key] = deliveries.claimed(self._deliveries[key], claim.now, claim.lease_s)
        return [self._deliveries[key] for key in keys]

    async def report_delivery(self, report: Report) -> Delivery | None:
        """Note what came of a try."""
        key = report.job_id, report.seq
        before = self._deliveries.get(key)
        after = deliveries.reported(before, report) if before else None
        if after is None:
            return None
        self._deliveries[key] = after
        if after.fate is Fate.GONE:
            for other, delivery in self._deliveries.items():
                if delivery.job_id == report.job_id and delivery.due_at is not None:
                    self._deliveries[other] = deliveries.over(delivery, Fate.GONE)
        return after

    async def deliveries_waiting(self, most: int) -> int:
        """Return how many are not over."""
        return min(most, sum(delivery.due_at is not None for delivery in self._deliveries.values()))

    def _queue_deliveries(self, job: Job, events: Sequence[NewEvent], first_seq: int) -> None:
        mine = [delivery for delivery in self._deliveries.values() if delivery.job_id == job.id]
        if any(delivery.fate is Fate.GONE for delivery in mine):
            return
        for delivery in deliveries.deliveries_of(job, events, first_seq):
            self._deliveries[job.id, delivery.seq] = delivery

    def _forget_deliveries(self, job_id: JobId) -> None:
        for key in [key for key in self._deliveries if key[0] == job_id]:
            del self._deliveries[key]
