"""Reservations that are paid for: of tenants whose tier has a price, money is held beside the units, or nothing is.

    reserve   the limiter decides first, as it is cheap; then the wallet; what the wallet refuses is released at once
    confirm   the hold waits for the settlement, which pays it with the usage row (`sql_usage`)
    release   both are given back; so is what nobody confirms (`sweep`)

Tenants without a price never touch a wallet. While SQL is away those with one are refused, as is proper with money.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from libs.clock import Clock
from libs.errors import PermissionDenied, Unavailable
from libs.ids import JobId, TenantId
from services.ratelimiter import agent
from services.ratelimiter.balances.refusal import Denial, Dimension
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.decider import Decider
from services.ratelimiter.headers import again
from services.ratelimiter.limiter import Decision
from services.ratelimiter.tenants.wallets import MICROS, Lack, Wallet, Wallets, next_month_s
from services.ratelimiter.tiers.tariffs import Tariffs

logger = logging.getLogger(__name__)

_SWEEP_EVERY_S = 10.0


class Till:
    """Stands before the limiter. Every call may come twice; the second changes nothing."""

    def __init__(self, limiter: Decider, tariffs: Tariffs, wallets: Wallets, clock: Clock) -> None:
        self._limiter, self._tariffs, self._wallets, self._clock = limiter, tariffs, wallets, clock

    async def reserve(self, hold: Hold) -> Decision:
        """Take what is asked for and hold its price, or nothing. Raises PermissionDenied for who must be verified."""
        self._check_verified(hold)
        decision = await self._limiter.reserve(hold)
        micros = self._micros(hold)
        if decision.denial is not None or not micros:
            return decision
        try:
            lacking = await self._wallets.hold(hold.tenant_id, hold.reservation_id, micros, self._clock.now())
        except Unavailable:
            await self._limiter.release(hold.tenant_id, hold.reservation_id)
            raise
        if lacking is None:
            return decision
        await self._limiter.release(hold.tenant_id, hold.reservation_id)
        denial = _denial(lacking, micros, self._clock.now())
        return replace(decision, denial=denial, headers=[*decision.headers, *again(denial)])

    async def confirm(self, hold: Hold, reserved_s: float | None = None) -> None:
        """Make it stand, and its money with it."""
        micros = self._micros(hold)
        if micros:
            await self._wallets.confirm(hold.tenant_id, hold.reservation_id, micros, self._clock.now())
        await self._limiter.confirm(hold, reserved_s)

    async def release(self, tenant_id: TenantId, reservation_id: JobId) -> bool:
        """Give it back; False when nothing tentative was there. Its money comes by the sweep if SQL is away."""
        released = await self._limiter.release(tenant_id, reservation_id)
        if released:
            try:
                await self._wallets.release(reservation_id)
            except Unavailable as error:
                told = {"job_id": reservation_id, "reason": error.message}
                logger.warning("money is given back later", extra=told)
        return released

    async def run(self, ttl_s: float) -> None:
        """Give back now and then what was held for longer than `ttl_s` and never confirmed, until cancelled."""
        await agent.repeat("the till", self._clock, _SWEEP_EVERY_S, lambda: self._sweep(ttl_s))

    async def _sweep(self, ttl_s: float) -> None:
        given_back = await self._wallets.sweep(self._clock.now() - ttl_s)
        if given_back:
            logger.info("gave money back that no job came for", extra={"holds": given_back})

    def _micros(self, hold: Hold) -> int:
        return self._tariffs.of(hold.tenant_id, hold.tier).micros(hold.units)

    def _check_verified(self, hold: Hold) -> None:
        needs = self._tariffs.of(hold.tenant_id, hold.tier).requires_verified
        if needs and not self._tariffs.is_verified(hold.tenant_id):
            told = (
                f"The tier {hold.tier} is for verified tenants, and {hold.tenant_id} is not verified yet. "
                "Nothing was charged; ask the operator, who verifies with `darkroom tenants verify`."
            )
            raise PermissionDenied(told, reason="TENANT_NOT_VERIFIED", metadata={"tier": hold.tier})


def _denial(lacking: Wallet, micros: int, now_s: float) -> Denial:
    """Return the refusal of a wallet, in the currency: for BALANCE what is needed, for SPEND the cap of the month."""
    if lacking.lack(micros) is Lack.CAP:
        cap, left = lacking.cap_micros or 0, lacking.left_micros or 0
        return Denial(Dimension.SPEND, cap / MICROS, max(0, left) / MICROS, next_month_s(now_s))
    return Denial(Dimension.BALANCE, micros / MICROS, max(0, lacking.free_micros) / MICROS, 0.0)
