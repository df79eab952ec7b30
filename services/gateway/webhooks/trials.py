"""Test events: sent at once to an endpoint whose owner wants to see whether it works, and not tried again."""

from __future__ import annotations

from libs.clients.deliveries import Outcome, Result
from libs.clients.endpoints import Endpoint
from libs.clients.event_deliveries import EventDelivery
from libs.clock import Clock
from libs.errors import Unavailable
from libs.generation.webhook import receiver_of
from libs.ids import TenantId, new_ulid
from services.gateway.webhooks.agent import Sends
from services.gateway.webhooks.measures import SourceMeasures
from services.gateway.webhooks.places import Places

KIND = "test"
_TOLD = "This is a test: nothing has happened."


class Trials:
    """Sends test events, in the places of what tells of accounts."""

    def __init__(self, sender: Sends, places: Places, measures: SourceMeasures, clock: Clock) -> None:
        self._sender, self._places, self._measures, self._clock = sender, places, measures, clock

    async def send(self, tenant_id: TenantId, endpoint: Endpoint) -> Result:
        """Try once and return what came of it. Raises Unavailable while too much is underway for this account."""
        delivery = self._delivery(tenant_id, endpoint)
        if not self._places.take(delivery):
            raise _no_place()
        try:
            result = await self._sender.send(delivery)
        finally:
            self._places.leave(delivery)
        self._measures.tried(result)
        if result.outcome is Outcome.RETURNED:
            raise _no_place()
        return result

    def _delivery(self, tenant_id: TenantId, endpoint: Endpoint) -> EventDelivery:
        receiver, now_s = receiver_of(endpoint.url), self._clock.now()
        return EventDelivery(
            tries=1,
            tenant_id=tenant_id,
            url=endpoint.url,
            host=receiver.host if receiver else "",
            time=now_s,
            event_id=f"evt_{new_ulid(now_s)}",
            endpoint_id=endpoint.id,
            kind=KIND,
            message=_TOLD,
        )


def _no_place() -> Unavailable:
    told = "So much is being sent to your endpoints that there is no place for a test. Try again in a few seconds."
    return Unavailable(told, retry_after_s=5.0)
