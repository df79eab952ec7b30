"""Deliveries for tests of webhooks."""

from __future__ import annotations

from typing import Any

from libs.clients.deliveries import Delivery
from libs.ids import JobId, TenantId

NOW = 1_700_000_000.0
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def a_delivery(number: int = 1, **changes: Any) -> Delivery:
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
    return Delivery(**fields | changes)
