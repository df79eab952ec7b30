"""What a webhook says, and that the library of its receivers takes the signature."""

from __future__ import annotations

import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from libs.secret_files import webhook_secret
from services.gateway.webhooks.payload import body_of, headers_of
from tests.unit.services.gateway.webhooks.deliveries import SECRET, a_delivery, an_event


def test_it_names_the_job_and_what_happened_and_no_more() -> None:
    assert json.loads(body_of(a_delivery())) == {
        "type": "generation.completed",
        "timestamp": "2023-11-14T22:13:20.250Z",
        "data": {
            "id": "job_00000000000000000000000001",
            "state": "SUCCEEDED",
            "sequence": 4,
            "model": "shapes",
            "model_version": "shapes@1",
            "labels": {"team": "café"},
        },
    }


def test_a_failure_has_its_reason_and_a_picture_its_number() -> None:
    failed = json.loads(body_of(a_delivery(event="failed", state="FAILED", error_reason="WORKER_LOST")))
    assert (failed["type"], failed["data"]["error"]) == ("generation.failed", {"reason": "WORKER_LOST"})
    assert json.loads(body_of(a_delivery(event="image", image_index=0)))["data"]["image"] == {"index": 0}


def test_an_event_of_an_account_says_the_words_of_its_list() -> None:
    assert json.loads(body_of(an_event())) == {
        "type": "account.usage_threshold",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "data": {"id": "evt_1", "account": "acme", "message": "50 % of today's 10 images are used (5)."},
    }
    assert headers_of(an_event(tries=3), b"{}", SECRET, 5.0)["webhook-id"] == "evt_1"


def test_receivers_can_verify_it_with_the_library() -> None:
    now = time.time()  # the library knows no other clock
    body = body_of(a_delivery())
    headers = dict(headers_of(a_delivery(), body, SECRET, now))
    assert Webhook(SECRET).verify(body, headers)["data"]["state"] == "SUCCEEDED"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace(b"SUCCEEDED", b"FAILED"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(webhook_secret("d" * 32, "zeta")).verify(body, headers)


def test_the_id_is_the_same_at_every_try() -> None:
    first, second = (headers_of(a_delivery(tries=tries), b"{}", SECRET, 5.0 + tries) for tries in (1, 2))
    assert first["webhook-id"] == second["webhook-id"] == "job_00000000000000000000000001_4"
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("6", "7")


def test_every_tenant_has_a_secret_of_its_own() -> None:
    secrets = {webhook_secret(deployment, tenant) for deployment in ("d" * 32, "e" * 32) for tenant in ("acme", "zeta")}
    assert len(secrets) == 4
    assert all(Webhook(secret) for secret in secrets)
