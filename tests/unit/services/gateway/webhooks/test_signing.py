"""What deliveries are signed with: a secret a tenant for its jobs, a secret an endpoint for its events."""

from __future__ import annotations

from standardwebhooks import Webhook

from libs.ids import EndpointId
from libs.secret_files import webhook_secret
from services.gateway.webhooks.signing import WebhookSecrets
from tests.unit.services.gateway.webhooks.deliveries import a_delivery, an_event

DEPLOYMENT = "d" * 32


def test_jobs_are_signed_with_the_tenants_and_events_with_the_endpoints() -> None:
    secrets = WebhookSecrets(DEPLOYMENT)
    assert secrets.of(a_delivery()) == webhook_secret(DEPLOYMENT, "acme")
    assert secrets.of(an_event()) == secrets.of_endpoint(EndpointId("wh_1"))


def test_no_two_endpoints_and_no_two_deployments_have_one_secret() -> None:
    made = {
        WebhookSecrets(deployment).of_endpoint(EndpointId(endpoint))
        for deployment in (DEPLOYMENT, "e" * 32)
        for endpoint in ("wh_1", "wh_2")
    }
    assert len(made | {webhook_secret(DEPLOYMENT, "wh_1"), webhook_secret(DEPLOYMENT, "endpoint wh_1")}) == 6
    assert all(Webhook(secret) for secret in made)
