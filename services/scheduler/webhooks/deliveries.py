"""Which deliveries an event makes, and what a claim or a report makes of one. Pure; every store applies it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from libs.generation.webhook import receiver_of
from libs.webhooks import tries
from libs.webhooks.tries import Fate
from services.scheduler.job import Job
from services.scheduler.webhooks.store import Delivery, Report

if TYPE_CHECKING:
    from services.scheduler.storage.changes import NewEvent

logger = logging.getLogger(__name__)


def deliveries_of(job: Job, events: Sequence[NewEvent], first_seq: int) -> list[Delivery]:
    """Return what is to be told of a job's new events, numbered from `first_seq`.

    It is committed with the event, so nothing that a request asked for may make it fail: what cannot be sent to anybody
    is left out.
    """
    webhook = job.spec.webhook
    if webhook is None:
        return []
    wanted = [(seq, event) for seq, event in enumerate(events, start=first_seq) if event.kind in webhook.events]
    host = host_of(webhook.url)
    if wanted and not host:
        logger.warning("a webhook leads nowhere", extra={"job_id": job.id, "tenant_id": job.tenant_id})
        return []
    return [_delivery(job, webhook.url, host, seq, event) for seq, event in wanted]


def host_of(url: str) -> str:
    """Return whom a URL leads to, "" when nobody can tell; deliveries that go there at a time are counted by this."""
    receiver = receiver_of(url)
    return receiver.host if receiver else ""


def _delivery(job: Job, url: str, host: str, seq: int, event: NewEvent) -> Delivery:
    return Delivery(
        job_id=job.id,
        seq=seq,
        tenant_id=job.tenant_id,
        url=url,
        host=host,
        kind=event.kind,
        time=event.time,
        state=job.state,
        model=job.model,
        model_version=job.model_version,
        labels=dict(job.spec.labels),
        error_reason=event.payload.get("reason", ""),
        image_index=event.payload.get("image", {}).get("index"),
        due_at=event.time,
    )


def claimed(delivery: Delivery, now: float, lease_s: float) -> Delivery:
    """Return a delivery in the hands of a claimer."""
    return dataclasses.replace(delivery, tries=delivery.tries + 1, due_at=now + lease_s)


def reported(delivery: Delivery, report: Report) -> Delivery | None:
    """Return a delivery after a try; None when that changes nothing."""
    after = tries.reported(delivery, report)
    if after is None:
        return None
    changed = {field.name: getattr(after, field.name) for field in dataclasses.fields(after)}
    return dataclasses.replace(delivery, **changed)


def over(delivery: Delivery, fate: Fate) -> Delivery:
    """Return a delivery that is not tried any more."""
    return dataclasses.replace(delivery, due_at=None, fate=fate)
