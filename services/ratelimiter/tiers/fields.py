"""What may stand in a tier of `tiers.toml`, and what is wrong with one. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

VERIFIED = "verified"
_LARGEST = 1e15  # beyond that arithmetic loses single units; nothing that is not a number is below it


@dataclass(frozen=True, slots=True)
class Field:
    """One field: whether its value is taken, and what it must be, in words."""

    takes: Callable[[object], bool]
    must_be: str
    needed: bool = False


def problems(fields: Mapping[str, object]) -> list[str]:
    """Return everything that is wrong with one tier, each beginning with the name of the field."""
    found = [f"{name}: unknown{near(name, FIELDS)}" for name in fields if name not in FIELDS]
    found += [f"{name}: missing" for name in NEEDED if name not in fields]
    found += [
        f"{name}: must be {field.must_be}"
        for name, field in FIELDS.items()
        if name in fields and not field.takes(fields[name])
    ]
    if _is_positive(fields.get("requests_burst")) and _number(fields["requests_burst"]) < 1:
        found.append("requests_burst: must be 1 or more, or no request ever fits")
    return found


def read(text: str) -> object:
    """Return the value that a text says, as TOML would: a number, `true`, `false`, or the text itself."""
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def written(value: object) -> str:
    """Return a value as text that `read` reads."""
    if isinstance(value, float):
        return f"{value:.12g}"
    return "none" if value is None else str(value).lower()


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint at what may have been meant."""
    listed = tuple(known)
    match = difflib.get_close_matches(name, listed, n=1)
    return f"; did you mean {match[0]}?" if match else f"; known are {', '.join(listed)}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _is_positive(value: object) -> bool:
    return _is_number(value) and _number(value) > 0


def _is_zero_or_more(value: object) -> bool:
    return _is_number(value) and _number(value) >= 0


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= _number(value) <= 1


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and _is_positive(value)


_NEEDED_NUMBER = Field(_is_positive, "a number above 0", needed=True)
_NUMBER = Field(_is_positive, "a number above 0")
_WHOLE = Field(_is_whole, "a whole number above 0")

FIELDS: Mapping[str, Field] = {
    "requests_per_minute": _NEEDED_NUMBER,
    "requests_burst": _NEEDED_NUMBER,
    "units_per_minute": _NEEDED_NUMBER,
    "units_burst": _NEEDED_NUMBER,
    "in_flight_images": _WHOLE,
    "running_images": _WHOLE,
    "daily_images": _WHOLE,
    "daily_units": _NUMBER,
    "address_daily_images": _WHOLE,
    "network_daily_images": _WHOLE,
    "max_pixels": _WHOLE,
    "max_steps": _WHOLE,
    "borrows": Field(lambda value: isinstance(value, bool), "true or false"),
    "requires": Field(lambda value: value == VERIFIED, f'"{VERIFIED}" or left out'),
    "weight": _NUMBER,
    "outage_share": Field(_is_share, "a number from 0 to 1"),
    "outage_minutes": Field(_is_zero_or_more, "a number of 0 or more"),
    "price_per_1000_units": Field(_is_zero_or_more, "a number of 0 or more"),
}
NEEDED = tuple(name for name, field in FIELDS.items() if field.needed)
