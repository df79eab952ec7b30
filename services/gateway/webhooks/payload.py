"""What a webhook says, in the form and with the signature of Standard Webhooks. Pure.

It is thin: what happened to which job, never its prompt or its pictures; who is told asks for the job. Of an account's
events it has the words that the account's list has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from libs.clients.deliveries import Delivery
from libs.clients.event_deliveries import EventDelivery
from libs.clients.job_deliveries import JobDelivery

USER_AGENT = "darkroom-webhooks/1"


def body_of(delivery: Delivery) -> bytes:
    """Return the body; it is the same at every try."""
    match delivery:
        case JobDelivery():
            kind, data = f"generation.{delivery.event}", _of_job(delivery)
        case EventDelivery():
            kind, data = f"account.{delivery.kind}", _of_event(delivery)
        case _:
            raise TypeError(f"nothing is known to say of {type(delivery).__name__}")
    moment = datetime.fromtimestamp(delivery.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": kind, "timestamp": moment, "data": data}).encode()


def headers_of(delivery: Delivery, body: bytes, secret: str, now: float) -> Mapping[str, str]:
    """Return the headers of a try at `now`, signed with its receiver's secret."""
    moment = datetime.fromtimestamp(int(now), UTC)
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": delivery.id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": Webhook(secret).sign(delivery.id, moment, body.decode()),
    }


def _of_event(delivery: EventDelivery) -> Mapping[str, Any]:
    return {"id": delivery.event_id, "account": delivery.tenant_id, "message": delivery.message}


def _of_job(delivery: JobDelivery) -> Mapping[str, Any]:
    data: dict[str, Any] = {
        "id": delivery.job_id,
        "state": delivery.state,
        "sequence": delivery.sequence,
        "model": delivery.model,
        "model_version": delivery.model_version,
        "labels": dict(delivery.labels),
    }
    if delivery.error_reason:
        data["error"] = {"reason": delivery.error_reason}
    if delivery.image_index is not None:
        data["image"] = {"index": delivery.image_index}
    return data
