"""Decides also while the ledger of all is away: by a share of the limits, and with a journal of what was answered.

    the ledger answers ──▶ `whole` decides
    it does not ─────────▶ `alone` decides by `outage_share`; the journal keeps it; `x-ratelimit-degraded: 1`
    it is back ──────────▶ `recovery` puts it together if it lost its data and tells it the journal

One call that failed is decided alone as well: nobody has to come again for it. A tenant that asks more than can be
counted one after the other is told to come again, and its jobs end by the journal: that is not the ledger's failure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from libs.clock import Clock
from libs.errors import Unavailable
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.causes import NOTHING, Charge
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.reservation import Hold, Step
from services.ratelimiter.balances.scope import LimitsInForce
from services.ratelimiter.balances.standing import Standing
from services.ratelimiter.headers import Header
from services.ratelimiter.ledgers.ledger import LedgerBusy
from services.ratelimiter.ledgers.redis_line import LedgerAway, LedgerLost
from services.ratelimiter.limiter import Decision, Limiter
from services.ratelimiter.meters import Meters
from services.ratelimiter.outages import outage_share
from services.ratelimiter.outages.breaker import Breaker
from services.ratelimiter.outages.journal import Entry, Journal
from services.ratelimiter.outages.outage_share import Share
from services.ratelimiter.outages.stand_in import StandIn
from services.ratelimiter.usage.book import Settlement, UsageBook

DEGRADED: Header = ("x-ratelimit-degraded", "1")
_RETRY_AFTER_S = 5.0
_OF_ONE_PICTURE = ("pixels", "steps")  # limits that no outage changes

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Standby:
    """What is at hand when the ledger is away."""

    ledger: StandIn
    journal: Journal
    breaker: Breaker
    replicas: int
    lease_s: float
    """For which pictures in flight keep their place, as in the ledger."""


class OutageLimiter:
    """Keeps the promises of `decider.Decider`. `whole` asks the ledger of all, which raises LedgerAway."""

    def __init__(
        self,
        whole: Limiter,
        standby: Standby,
        tariffs: LimitsInForce,
        usage: UsageBook,
        clock: Clock,
        meters: Meters,
    ) -> None:
        share = Share(tariffs, standby.replicas)
        self._whole = whole
        self._alone = Limiter(share, standby.ledger, usage, clock, meters, standby.lease_s)
        self._breaker, self._journal = standby.breaker, standby.journal
        self._tariffs, self._clock, self._meters = tariffs, clock, meters

    async def reserve(self, hold: Hold) -> Decision:
        """Take what is asked for, all or nothing; Unavailable where an outage leaves nothing to grant."""
        try:
            return await self._ask(lambda whole: whole.reserve(hold))
        except LedgerAway:
            return await self._reserve_alone(hold)

    async def confirm(self, hold: Hold, reserved_s: float | None = None) -> None:
        """Make it stand."""
        try:
            await self._ask(lambda whole: whole.confirm(hold, reserved_s))
        except (LedgerAway, LedgerBusy):
            self._write(Step.CONFIRM, hold, reserved_s)
            await self._alone.confirm(hold, reserved_s)

    async def renew(self, holds: Sequence[Hold]) -> list[JobId]:
        """Lease the places of open jobs for longer; in an outage nobody is told to confirm what stands in the ledger."""
        try:
            return await self._ask(lambda whole: whole.renew(holds))
        except LedgerAway:
            await self._alone.renew(holds)
            return []

    async def settle(self, settlement: Settlement, reserved_s: float | None = None) -> bool:
        """Replace the estimate by the charge; False when that was done before."""
        try:
            return await self._ask(lambda whole: whole.settle(settlement, reserved_s))
        except (LedgerAway, LedgerBusy):
            applied = await self._alone.settle(settlement, reserved_s)
            self._write(Step.SETTLE, settlement.hold, reserved_s, charge=settlement.charge, is_first=applied)
            return applied

    async def release(self, tenant_id: TenantId, reservation_id: JobId) -> bool:
        """Give it back; False when nothing tentative was there."""
        try:
            return await self._ask(lambda whole: whole.release(tenant_id, reservation_id))
        except (LedgerAway, LedgerBusy):
            self._write(Step.RELEASE, Hold(reservation_id, tenant_id, "", 0.0))
            return await self._alone.release(tenant_id, reservation_id)

    async def peek(self, hold: Hold) -> Decision:
        """Return what `reserve` would decide; takes nothing."""
        try:
            return await self._ask(lambda whole: whole.peek(hold))
        except LedgerAway:
            return _marked(await self._alone.peek(hold))

    async def told(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str = "") -> Sequence[Header]:
        """Return the headers of a caller of whom nothing is denied."""
        try:
            return await self._ask(lambda whole: whole.told(tenant_id, tier, key_id, address))
        except LedgerAway:
            return [*await self._alone.told(tenant_id, tier, key_id, address), DEGRADED]

    async def standing(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str = "") -> Sequence[Standing]:
        """Return every limit of a caller with what is used of it; in an outage those of the share that is granted."""
        try:
            return await self._ask(lambda whole: whole.standing(tenant_id, tier, key_id, address))
        except LedgerAway:
            return await self._alone.standing(tenant_id, tier, key_id, address)

    async def expire(self, ttl_s: float) -> int:
        """Give back what nobody confirmed within `ttl_s`; returns how many."""
        expired = await self._alone.expire(ttl_s)
        try:
            return expired + await self._ask(lambda whole: whole.expire(ttl_s))
        except LedgerAway:
            return expired

    async def remember(self) -> None:
        """Count again what was granted in an outage that outlasts this process's start."""
        for entry in self._journal.all():
            if entry.step is Step.RESERVE:
                await self._alone.reserve(entry.hold)

    async def _ask(self, call: Callable[[Limiter], Awaitable[R]]) -> R:
        """Ask the ledger of all, unless it is left alone. Raises LedgerAway."""
        if self._breaker.is_open:
            raise LedgerAway.because("it is left alone for a moment")
        try:
            return await call(self._whole)
        except LedgerLost:
            self._breaker.open_at_once(self._clock.monotonic())
            raise
        except LedgerAway as error:
            self._breaker.failed(self._clock.monotonic(), error.exchange)
            raise

    async def _reserve_alone(self, hold: Hold) -> Decision:
        limits = self._tariffs.of(hold.tenant_id, hold.tier)
        if outage_share.is_closed(limits, self._breaker.out_for_s(self._clock.monotonic())):
            raise _nothing_granted()
        decision = await self._alone.reserve(hold)
        denial = decision.denial
        if denial is None:
            self._write(Step.RESERVE, hold, self._clock.now())
        elif denial.dimension is Dimension.TIER and denial.about not in _OF_ONE_PICTURE:
            raise _nothing_granted()
        return _marked(decision)

    def _write(
        self,
        step: Step,
        hold: Hold,
        reserved_s: float | None = None,
        *,
        charge: Charge = NOTHING,
        is_first: bool = True,
    ) -> None:
        self._meters.answered_alone(step)
        self._journal.write(Entry(step, hold, self._clock.now(), reserved_s, charge, is_first))


def _marked(decision: Decision) -> Decision:
    return replace(decision, headers=(*decision.headers, DEGRADED))


def _nothing_granted() -> Unavailable:
    told = (
        "Limits cannot be counted at the moment, and less than this request is granted until they can. "
        "Nothing was charged; try again in a few seconds, or ask for fewer or smaller pictures."
    )
    return Unavailable(told, reason="LIMITER_DEGRADED", metadata={"part": "ledger"}, retry_after_s=_RETRY_AFTER_S)
