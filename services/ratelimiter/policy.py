"""Tiers and their limits, from `tiers.toml`: checked as a whole before any of it is used.

[pro]
requests_per_minute = 60
requests_burst = 30
units_per_minute = 240_000
units_burst = 480_000
max_pixels = 4_194_304   # optional, and max_steps: kept here; not enforced until Reserve carries the size
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.ratelimiter.bucket import Rate

SHIPPED = Path(__file__).with_name("tiers.toml")
ANONYMOUS = "anonymous"
TIERS = ("enterprise", "pro", "payg", "free", ANONYMOUS)  # in order of service
_NEEDED = ("requests_per_minute", "requests_burst", "units_per_minute", "units_burst")
_OPTIONAL = ("max_pixels", "max_steps")


class BadTiers(Exception):
    """The file is unusable; the message names file, tier and field of everything that is wrong."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant of one tier may spend; a unit is a millisecond of the reference device."""

    tier: str
    requests: Rate
    units: Rate
    max_pixels: int | None = None
    max_steps: int | None = None


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
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadTiers(f"{path}: {error}") from error
    problems = [f"{path}: {problem}" for problem in _problems(document)]
    if problems:
        raise BadTiers("\n".join(problems))
    return Policy({tier: _limits(tier, document[tier]) for tier in TIERS})


def complaint(path: Path) -> str | None:
    """Return what is wrong with a file, for the check of a setting."""
    try:
        load(path)
    except BadTiers as error:
        return str(error)
    return None


def _limits(tier: str, fields: Mapping[str, Any]) -> Limits:
    requests = Rate(float(fields["requests_per_minute"]), float(fields["requests_burst"]))
    units = Rate(float(fields["units_per_minute"]), float(fields["units_burst"]))
    return Limits(tier, requests, units, fields.get("max_pixels"), fields.get("max_steps"))


def _problems(document: Mapping[str, Any]) -> list[str]:
    problems = [f"tier {tier}: unknown{_near(tier, TIERS)}" for tier in document if tier not in TIERS]
    for tier in TIERS:
        fields = document.get(tier)
        if not isinstance(fields, dict):
            problems.append(f"tier {tier}: missing; it needs {', '.join(_NEEDED)}")
            continue
        problems += [f"tier {tier}: {problem}" for problem in _field_problems(fields)]
    return problems


def _field_problems(fields: Mapping[str, Any]) -> list[str]:
    known = (*_NEEDED, *_OPTIONAL)
    problems = [f"{name}: unknown{_near(name, known)}" for name in fields if name not in known]
    problems += [f"{name}: missing" for name in _NEEDED if name not in fields]
    problems += [f"{name}: must be a number above 0" for name in _NEEDED if name in fields and not _fits(fields[name])]
    whole = [name for name in _OPTIONAL if name in fields]
    problems += [f"{name}: must be a whole number above 0" for name in whole if not _fits_whole(fields[name])]
    if _fits(fields.get("requests_burst")) and fields["requests_burst"] < 1:
        problems.append("requests_burst: must be 1 or more, or no request ever fits")
    return problems


def _fits(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _fits_whole(value: object) -> bool:
    return isinstance(value, int) and _fits(value)


def _near(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
