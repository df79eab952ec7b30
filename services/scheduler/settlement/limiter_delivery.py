"""Messages of the outbox → calls of the limiter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.clients.limiter import LimiterClient, Reservation, Settlement
from libs.errors import InternalFault


class LimiterDelivery:
    """The outbox's Limiter over a client."""

    def __init__(self, client: LimiterClient) -> None:
        self._client = client

    async def deliver(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hand over a message; `charging` says what it holds."""
        match kind:
            case "confirm":
                await self._client.confirm(Reservation(**payload))
            case "settle":
                await self._client.settle(Settlement(**payload))
            case _:
                raise InternalFault(f"{kind!r} is not a kind of message")
