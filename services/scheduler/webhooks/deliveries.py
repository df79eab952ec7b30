"""Which deliveries an event makes, and what a report makes of one. Pure; every store applies it.

A delivery that fails is tried again at a random moment of a window that grows from 5 s to 4 h, for 24 h after its
event; the last try is at the end of that day. Then it is dead.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from libs.generation.webhook import receiver_of
from services.scheduler.job import Job
from services.scheduler.webhooks.store import Delivery, Fate, Report, Told

if TYPE_CHECKING:
    from services.scheduler.storage.changes import NewEvent

logger = logging.getLogger(__name__)

TRIED_FOR_S = 24 * 3600.0
FIRST_WINDOW_S, GROWTH, LAST_WINDOW_S = 5.0, 4.0, 4 * 3600.0
LEAST_WAIT_S = 1.0
_GROWS = 16  # times at most: beyond them the window is at its widest, and the power would overflow


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
    """Return a delivery after a try; None when that changes nothing.

    That it arrived, or is wanted by nobody, holds whoever has claimed it since; that it failed or was given back does not.
    """
    mine = report.told in (Told.DELIVERED, Told.GONE) or report.tries == delivery.tries
    if delivery.due_at is None or not mine:
        return None
    if report.told is Told.RETURNED:
        return dataclasses.replace(delivery, tries=max(0, delivery.tries - 1), due_at=report.now)
    tried = dataclasses.replace(delivery, status=report.status, reason=report.reason)
    if report.told is Told.FAILED:
        due_at = next_try_at(delivery, report)
        return dataclasses.replace(tried, due_at=due_at, fate=Fate.DEAD if due_at is None else Fate.WAITING)
    return over(tried, Fate.DELIVERED if report.told is Told.DELIVERED else Fate.GONE)


def over(delivery: Delivery, fate: Fate) -> Delivery:
    """Return a delivery that is not tried any more."""
    return dataclasses.replace(delivery, due_at=None, fate=fate)


def next_try_at(delivery: Delivery, report: Report) -> float | None:
    """Return when a delivery that failed is tried again; None when it has been for long enough."""
    last_at = delivery.time + TRIED_FOR_S
    if report.now >= last_at:
        return None
    window_s = min(LAST_WINDOW_S, FIRST_WINDOW_S * GROWTH ** min(_GROWS, max(0, report.tries - 1)))
    wait_s = max(LEAST_WAIT_S, report.roll * window_s, min(report.retry_after_s, LAST_WINDOW_S))
    return min(last_at, report.now + wait_s)
