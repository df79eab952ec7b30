"""Messages of the outbox → calls of the limiter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from libs.clients.limiter import LimiterClient, OpenReservation, Reservation, Settlement
from libs.errors import InternalFault
from libs.ids import JobId


class LimiterDelivery:
    """The Limiter of outbox and renewer over a client."""

    def __init__(self, client: LimiterClient) -> None:
        self._client = client

    async def renew(self, reservations: Sequence[OpenReservation]) -> Sequence[JobId]:
        """Keep the places of open jobs."""
        return await self._client.renew(reservations)

    async def deliver(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Hand over a message; `charging` says what it holds."""
        match kind:
            case "confirm":
                wanted = dict(payload)
                reserved_s = float(wanted.pop("reserved_s", 0.0))
                await self._client.confirm(Reservation(**wanted), reserved_s)
            case "settle":
                await self._client.settle(Settlement(**payload))
            case _:
                raise InternalFault(f"{kind!r} is not a kind of message")
