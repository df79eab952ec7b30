"""Calls that draw nothing and yet cost the service something: each is one request of its caller's minute."""

from __future__ import annotations

from libs.clients.limiter import Denial, Reservation
from libs.errors import LimitExceeded
from libs.ids import JobId
from libs.rpc import headers
from services.gateway.callers.identity import Caller
from services.gateway.creating.denials import too_many
from services.gateway.peers import Limiter


class RequestCount:
    """Takes them."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    async def take(self, caller: Caller, reservation_id: str) -> None:
        """Take one request; the reservation is never confirmed and so forgets itself. Raises LimitExceeded."""
        wanted = Reservation(JobId(reservation_id), caller.tenant_id, caller.tier, 0.0, images=0, key_id=caller.key_id)
        decision = await self._limiter.reserve(wanted)
        headers.add(decision.headers)
        if decision.denial is not None:
            raise too_many(decision.denial) if decision.denial.dimension == "requests" else _in_debt(decision.denial)


def _in_debt(denial: Denial) -> LimitExceeded:
    told = f"All units of this minute are used. Nothing was charged; try again in {denial.retry_after_s:.0f} s."
    metadata = {"dimension": denial.dimension, "available_units": f"{denial.available:.1f}"}
    return LimitExceeded(told, reason="GPU_COST_EXHAUSTED", metadata=metadata, retry_after_s=denial.retry_after_s)
