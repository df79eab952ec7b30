"""What a webhook says, in the form and with the signature of Standard Webhooks. Pure.

It is thin: what happened to which job, never its prompt or its pictures. Who is told asks for the job.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from libs.clients.deliveries import Delivery

USER_AGENT = "darkroom-webhooks/1"


def body_of(delivery: Delivery) -> bytes:
    """Return the body; it is the same at every try."""
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
    moment = datetime.fromtimestamp(delivery.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": f"generation.{delivery.event}", "timestamp": moment, "data": data}).encode()


def message_id(delivery: Delivery) -> str:
    """Return what names a delivery at every try, so that a receiver can tell that it has it already."""
    return f"{delivery.job_id}_{delivery.sequence}"


def headers_of(delivery: Delivery, body: bytes, secret: str, now: float) -> Mapping[str, str]:
    """Return the headers of a try at `now`, signed with the tenant's secret."""
    moment = datetime.fromtimestamp(int(now), UTC)
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message_id(delivery),
        "webhook-timestamp": str(int(now)),
        "webhook-signature": Webhook(secret).sign(message_id(delivery), moment, body.decode()),
    }
