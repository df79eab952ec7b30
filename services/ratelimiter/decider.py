"""What gateways, schedulers and the door ask; `limiter` answers, and `outage` when the ledger may be away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.balances.standing import Standing
from services.ratelimiter.headers import Header
from services.ratelimiter.limiter import Decision
from services.ratelimiter.usage.book import Settlement


class Decider(Protocol):
    """Decides over tenants by the limits in force. Every call may come twice; the second changes nothing."""

    async def reserve(self, hold: Hold) -> Decision:
        """Take what is asked for, all or nothing."""
        ...

    async def confirm(self, hold: Hold, reserved_s: float | None = None) -> None:
        """Make it stand."""
        ...

    async def renew(self, holds: Sequence[Hold]) -> list[JobId]:
        """Lease the places of open jobs for longer; returns those whose reservation does not stand."""
        ...

    async def settle(self, settlement: Settlement, reserved_s: float | None = None) -> bool:
        """Replace the estimate by the charge; False when that was done before."""
        ...

    async def release(self, tenant_id: TenantId, reservation_id: JobId) -> bool:
        """Give it back; False when nothing tentative was there."""
        ...

    async def peek(self, hold: Hold) -> Decision:
        """Return what `reserve` would decide; takes nothing."""
        ...

    async def told(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str = "") -> Sequence[Header]:
        """Return the headers of a caller of whom nothing is denied."""
        ...

    async def standing(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str = "") -> Sequence[Standing]:
        """Return every limit of a caller, account by account, with what is used of it."""
        ...

    async def expire(self, ttl_s: float) -> int:
        """Give back what nobody confirmed within `ttl_s`; returns how many."""
        ...
