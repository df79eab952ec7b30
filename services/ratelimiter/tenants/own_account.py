"""What tenants read of their own account: limits, usage, events. Nobody reads another's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from libs.clock import Clock
from libs.ids import KeyId, TenantId
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.scope import Kind
from services.ratelimiter.balances.standing import Standing
from services.ratelimiter.decider import Decider
from services.ratelimiter.tenants.events import EventPlace, TenantEvent, TenantEvents
from services.ratelimiter.tenants.wallets import MICROS, Wallet, Wallets, next_month_s
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage.reports import Place, UsagePages, UsageQuery, UsageSum

_READ_AT_ONCE = 2  # of the database's few readers; the rest is for those who stand at the door


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, as the door recognised them; `key_id` and `address` are empty where there is none."""

    tenant_id: TenantId
    tier: str
    key_id: KeyId
    address: str


@dataclass(frozen=True, slots=True)
class OwnLimits:
    """All limits of a reader; None is no limit."""

    standings: Sequence[Standing]
    max_pixels: int | None
    max_steps: int | None
    running_images: int | None


class OwnAccount:
    """Reads for tenants. Every method raises Unavailable when what it reads cannot be reached."""

    def __init__(
        self,
        limiter: Decider,
        tariffs: Tariffs,
        wallets: Wallets,
        usage: UsagePages,
        events: TenantEvents,
        clock: Clock,
    ) -> None:
        self._limiter, self._tariffs, self._wallets = limiter, tariffs, wallets
        self._usage, self._events, self._clock = usage, events, clock
        self._turn = asyncio.Semaphore(_READ_AT_ONCE)

    async def limits(self, reader: Reader) -> OwnLimits:
        """Return every limit with what is used of it; of a tenant that pays, its money too."""
        counted = await self._limiter.standing(reader.tenant_id, reader.tier, reader.key_id, reader.address)
        whole = self._tariffs.of(reader.tenant_id, reader.tier)
        with_key = self._tariffs.of(reader.tenant_id, reader.tier, reader.key_id)
        return OwnLimits(
            standings=[*counted, *(await self._money(reader) if whole.price_per_1000_units is not None else ())],
            max_pixels=_least(whole.max_pixels, with_key.max_pixels),
            max_steps=_least(whole.max_steps, with_key.max_steps),
            running_images=whole.running_images,
        )

    async def usage(self, query: UsageQuery, after: Place, most: int) -> tuple[Sequence[UsageSum], bool]:
        """Return a page of usage behind a place, and whether there is more behind it."""
        async with self._turn:
            found = await self._usage.page(query, after, most + 1)
        return found[:most], len(found) > most

    async def events(
        self, tenant_id: TenantId, before: EventPlace | None, most: int
    ) -> tuple[Sequence[TenantEvent], bool]:
        """Return a page of events before a place, and whether there is more behind it."""
        async with self._turn:
            found = await self._events.latest(tenant_id, most + 1, before)
        return found[:most], len(found) > most

    async def _money(self, reader: Reader) -> Sequence[Standing]:
        now_s = self._clock.now()
        return list(_of_wallet(await self._wallets.find(reader.tenant_id, now_s), now_s))


def _of_wallet(wallet: Wallet, now_s: float) -> Iterator[Standing]:
    """Yield the balance, of which running jobs use some, and where there is a cap, what is left under it."""
    whose, free = Kind.TENANT.value, max(0, wallet.free_micros)
    balance, held = wallet.balance_micros / MICROS, wallet.held_micros / MICROS
    yield Standing(Dimension.BALANCE, whose, balance, held, free / MICROS)
    if wallet.cap_micros is not None:
        used, left = wallet.spent_micros + wallet.held_micros, max(0, wallet.left_micros or 0)
        month_s = now_s + next_month_s(now_s)
        yield Standing(
            Dimension.SPEND, whose, wallet.cap_micros / MICROS, used / MICROS, left / MICROS, resets_s=month_s
        )


def _least(one: int | None, other: int | None) -> int | None:
    return min((most for most in (one, other) if most is not None), default=None)
