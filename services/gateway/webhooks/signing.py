"""What each delivery is signed with: made from the deployment's secret, which only gateways read, and kept nowhere.

Jobs name an address in every request, so a tenant has one secret for all of them, from its operator. An endpoint has its
own, from its id: whoever takes over an address learns nothing of another, and a new endpoint has a new secret.
"""

from __future__ import annotations

from libs.clients.deliveries import Delivery
from libs.clients.event_deliveries import EventDelivery
from libs.ids import EndpointId
from libs.secret_files import endpoint_secret, webhook_secret


class WebhookSecrets:
    """Secrets of receivers, from the one of the deployment."""

    def __init__(self, deployment_secret: str) -> None:
        self._deployment_secret = deployment_secret

    def of(self, delivery: Delivery) -> str:
        """Return what a delivery is signed with."""
        if isinstance(delivery, EventDelivery):
            return self.of_endpoint(delivery.endpoint_id)
        return webhook_secret(self._deployment_secret, delivery.tenant_id)

    def of_endpoint(self, endpoint_id: EndpointId) -> str:
        """Return what is sent to an endpoint is signed with."""
        return endpoint_secret(self._deployment_secret, endpoint_id)
