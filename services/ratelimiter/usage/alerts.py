"""What tenants are told of their usage: 50, 80 and 100 % of a day, of a cap, of their money; and days unlike the others.

    day      images or units of today against the tier's or the tenant's own limits
    money    of what the month had: spent, against spent and what is left; and against the cap
    spike    more units today than three times the most of the last seven days

Each is told once: its id names tenant, day or month and percentage. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from libs.account_events import EventKind
from libs.ids import TenantId
from services.ratelimiter.tenants.events import TenantEvent, event_of
from services.ratelimiter.tenants.wallets import MICROS, Wallet, month_of
from services.ratelimiter.tiers.policy import Limits

PERCENTS = (100, 80, 50)
SPIKE_TIMES, SPIKE_LEAST_UNITS = 3.0, 100_000.0  # below that much a day nothing is worth a word
SPIKE_DAYS = 7


@dataclass(frozen=True, slots=True)
class Today:
    """What a tenant has used today, in UTC."""

    tenant_id: TenantId
    day: int
    images: int
    units: float


def of_day(today: Today, limits: Limits, now_s: float) -> Iterator[TenantEvent]:
    """Return what is to be said of the limits of the day."""
    counted = (("images", today.images, limits.daily_images), ("units", today.units, limits.daily_units))
    for what, used, most in counted:
        percent = reached(used, most)
        if most is not None and percent:
            told = f"{percent} % of today's {most:.0f} {what} are used ({used:.0f}). They reset at 00:00 UTC."
            yield event_of(today.tenant_id, EventKind.USAGE_THRESHOLD, f"{today.day}:{what}:{percent}", told, now_s)


def of_money(wallet: Wallet, now_s: float) -> Iterator[TenantEvent]:
    """Return what is to be said of balance and cap of this month."""
    spent, had, month = wallet.spent_micros, wallet.spent_micros + wallet.balance_micros, month_of(now_s)
    percent = reached(spent, max(had, 1)) if spent else 0
    if percent:
        left = max(0, wallet.balance_micros) / MICROS
        told = f"{percent} % of the money of this month are spent; {left:.2f} are left. Without money no job is taken."
        yield event_of(wallet.tenant_id, EventKind.BALANCE_THRESHOLD, f"{month}:balance:{percent}", told, now_s)
    percent = reached(spent, wallet.cap_micros)
    if wallet.cap_micros is not None and percent:
        told = f"{percent} % of the cap of {wallet.cap_micros / MICROS:.2f} a month are spent."
        yield event_of(wallet.tenant_id, EventKind.BALANCE_THRESHOLD, f"{month}:cap:{percent}", told, now_s)


def may_spike(today: Today) -> bool:
    """Whether the days before are worth being looked at."""
    return today.units >= SPIKE_LEAST_UNITS


def of_spike(today: Today, most_before: float, now_s: float) -> Iterator[TenantEvent]:
    """Return what is to be said when the days before had `most_before` units at most; nothing of a first day."""
    if may_spike(today) and 0 < SPIKE_TIMES * most_before < today.units:
        times = today.units / most_before
        told = (
            f"Today {today.units:.0f} units are used, {times:.1f} times the most of the {SPIKE_DAYS} days before. "
            "If that was not you, withdraw the keys that you do not know."
        )
        yield event_of(today.tenant_id, EventKind.USAGE_SPIKE, f"{today.day}", told, now_s)


def reached(used: float, most: float | None) -> int:
    """Return the highest percentage that is reached; 0 for none, and without a limit."""
    return next((percent for percent in PERCENTS if most is not None and used * 100 >= most * percent), 0)
