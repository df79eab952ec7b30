"""Deliveries for tests of webhooks."""

from __future__ import annotations

from typing import Any

from libs.clients.event_deliveries import EventDelivery
from libs.clients.job_deliveries import JobDelivery
from libs.ids import EndpointId, JobId, TenantId

NOW = 1_700_000_000.0
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def a_delivery(number: int = 1, **changes: Any) -> JobDelivery:
    fields: dict[str, Any] = {
        "job_id": JobId(f"job_{number:026d}"),
        "sequence": 4,
        "tries": 1,
        "tenant_id": TenantId("acme"),
        "url": "https://hook.example/done?x=1",
        "host": "hook.example",
        "event": "completed",
        "time": NOW + 0.25,
        "state": "SUCCEEDED",
        "model": "shapes",
        "model_version": "shapes@1",
        "labels": {"team": "café"},
    }
    return JobDelivery(**fields | changes)


def an_event(number: int = 1, **changes: Any) -> EventDelivery:
    fields: dict[str, Any] = {
        "event_id": f"evt_{number}",
        "endpoint_id": EndpointId("wh_1"),
        "tries": 1,
        "tenant_id": TenantId("acme"),
        "url": "https://hook.example/events",
        "host": "hook.example",
        "time": NOW,
        "kind": "usage_threshold",
        "message": "50 % of today's 10 images are used (5).",
    }
    return EventDelivery(**fields | changes)
