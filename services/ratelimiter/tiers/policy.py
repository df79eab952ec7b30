"""Tiers and their limits, from `tiers.toml`: checked as a whole before any of it is used.

What a tier allows in one picture must fit into its burst (`tier_sense`), or it would promise what it never grants.

[free]
requests_per_minute = 10        # needed, as is all of the first four
requests_burst = 10             # at once, after a rest
units_per_minute = 30_000
units_burst = 60_000
in_flight_images = 4            # the rest is optional: images that wait or run at once
running_images = 1              # of those, on devices; the scheduler lets others wait
daily_images = 200              # of a day in UTC
daily_units = 3_000_000
address_daily_images = 600      # of all callers without a key behind one address; of use to `anonymous` only
network_daily_images = 2_400    # the same of one IPv6 network (/48); without it four times as many as of an address
max_pixels = 1_048_576          # of one picture
max_steps = 50
borrows = true                  # the last job of a burst may take up to half of itself on credit
requires = "verified"           # only tenants that an operator has verified
weight = 1.0                    # of a tenant beside the others of its tier, in the queue
outage_share = 0.25             # of the rates, granted while the ledger is away; 0 grants nothing
outage_minutes = 5              # how long; without it as long as it takes
price_per_1000_units = 0.02     # taken from the tenant's prepaid balance
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.tiers import fields as tier_fields
from services.ratelimiter.tiers import sense as tier_sense

SHIPPED = Path(__file__).with_name("tiers.toml")
ANONYMOUS = "anonymous"
TIERS = ("enterprise", "pro", "payg", "free", ANONYMOUS)  # in order of service
_ADDRESSES_OF_A_NETWORK = 4  # a household or an office with several, each at its own ceiling
_MICROS_PER_1000 = 1_000_000 / 1000
_AS_THEY_ARE = (
    "in_flight_images",
    "running_images",
    "daily_images",
    "daily_units",
    "address_daily_images",
    "network_daily_images",
    "max_pixels",
    "max_steps",
    "price_per_1000_units",
)


class BadTiers(Exception):
    """The file is unusable; the message names file, tier and field of everything that is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What is granted while the ledger is away: `share` of the rates, for `lasts_s` seconds; None for any time."""

    share: float = 0.0
    lasts_s: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant of one tier may spend; a unit is a millisecond of the reference device. None is no limit."""

    tier: str
    requests: Rate
    units: Rate
    in_flight_images: int | None = None
    running_images: int | None = None
    daily_images: int | None = None
    daily_units: float | None = None
    max_pixels: int | None = None
    max_steps: int | None = None
    borrows: bool = False
    requires_verified: bool = False
    weight: float = 1.0
    outage: Outage = Outage()
    price_per_1000_units: float | None = None
    address_daily_images: int | None = None
    network_daily_images: int | None = None

    @property
    def network_images(self) -> int | None:
        """Pictures of a day of all callers without a key in one IPv6 network; None where addresses have no ceiling."""
        if self.address_daily_images is None:
            return None
        return self.network_daily_images or _ADDRESSES_OF_A_NETWORK * self.address_daily_images

    def micros(self, units: float) -> int:
        """Return what units cost in millionths of the currency, rounded up; 0 where nothing is paid by units."""
        if self.price_per_1000_units is None:
            return 0
        return math.ceil(round(units * self.price_per_1000_units * _MICROS_PER_1000, 6))


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of every tier."""

    tiers: Mapping[str, Limits]

    def of(self, tier: str) -> Limits:
        """Return the limits of a tier; KeyError when there is no such tier."""
        return self.tiers[tier]

    @property
    def window_s(self) -> float:
        """After this long without use every bucket is empty again, debts aside."""
        return max(max(limits.requests.window_s, limits.units.window_s) for limits in self.tiers.values())


def load(path: Path) -> Policy:
    """Read a file; raises BadTiers with everything that is wrong."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadTiers(f"{path}: {error}") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Policy:
    """Read the text of a file that is called `source`; raises BadTiers with everything that is wrong."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadTiers(f"{source}: {error}") from error
    problems = [f"{source}: {problem}" for problem in _problems(document)]
    if problems:
        raise BadTiers("\n".join(problems))
    return Policy({tier: limits_of(tier, document[tier]) for tier in TIERS})


def complaint(path: Path) -> str | None:
    """Return what is wrong with a file, for the check of a setting; no path is no file."""
    if path == Path():
        return None
    try:
        load(path)
    except BadTiers as error:
        return str(error)
    return None


def limits_of(tier: str, fields: Mapping[str, Any]) -> Limits:
    """Return the limits that checked fields say."""
    minutes = fields.get("outage_minutes")
    return Limits(
        tier=tier,
        requests=Rate(float(fields["requests_per_minute"]), float(fields["requests_burst"])),
        units=Rate(float(fields["units_per_minute"]), float(fields["units_burst"])),
        borrows=fields.get("borrows", False),
        requires_verified=fields.get("requires") == tier_fields.VERIFIED,
        weight=float(fields.get("weight", 1.0)),
        outage=Outage(
            share=float(fields.get("outage_share", 0.0)), lasts_s=None if minutes is None else 60.0 * float(minutes)
        ),
        **{name: fields.get(name) for name in _AS_THEY_ARE},
    )


def fields_of(limits: Limits) -> dict[str, Any]:
    """Return the fields that say these limits, without those that say nothing: the inverse of `limits_of`."""
    lasts_s = limits.outage.lasts_s
    fields: dict[str, Any] = {
        "requests_per_minute": limits.requests.per_minute,
        "requests_burst": limits.requests.burst,
        "units_per_minute": limits.units.per_minute,
        "units_burst": limits.units.burst,
        "borrows": limits.borrows,
        "requires": tier_fields.VERIFIED if limits.requires_verified else None,
        "weight": limits.weight,
        "outage_share": limits.outage.share,
        "outage_minutes": None if lasts_s is None else lasts_s / 60.0,
        **{name: getattr(limits, name) for name in _AS_THEY_ARE},
    }
    return {name: value for name, value in fields.items() if value is not None}


def overridden(limits: Limits, fields: Mapping[str, Any]) -> Limits:
    """Return the limits with some checked fields said otherwise; None takes an optional one away."""
    said = {**fields_of(limits), **fields}
    return limits_of(limits.tier, {name: value for name, value in said.items() if value is not None})


def changes(before: Policy, after: Policy) -> list[str]:
    """Return what differs, one line a field, like `free.daily_images: 200 → 300`; `-` is no limit."""
    told = []
    for tier, limits in after.tiers.items():
        old, new = fields_of(before.tiers[tier]) if tier in before.tiers else {}, fields_of(limits)
        names = [name for name in tier_fields.FIELDS if old.get(name) != new.get(name)]
        told += [f"{tier}.{name}: {_said(old.get(name))} → {_said(new.get(name))}" for name in names]
    return told


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:_.10g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}"
    return "-" if value is None else str(value).lower()


def _problems(document: Mapping[str, Any]) -> list[str]:
    problems = [f"tier {tier}: unknown{tier_fields.near(tier, TIERS)}" for tier in document if tier not in TIERS]
    for tier in TIERS:
        fields = document.get(tier)
        if not isinstance(fields, dict):
            problems.append(f"tier {tier}: missing; it needs {', '.join(tier_fields.NEEDED)}")
            continue
        wrong = tier_fields.problems(fields) or tier_sense.problems(fields)
        problems += [f"tier {tier}: {problem}" for problem in wrong]
    return problems
