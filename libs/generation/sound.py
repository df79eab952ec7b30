"""Checks numbers that were kept: one that is none would end whoever reckons with it, long after it was read. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

_MOST = 1e30  # nothing that is measured comes near, and what is made of it stays a number
_MOST_LOG = 100.0


def finite(values: Iterable[Any], least: float = -_MOST, most: float = _MOST) -> None:
    """Raise ValueError unless all are numbers from `least` to `most`."""
    for value in values:
        if not isinstance(value, int | float) or not least <= value <= most:  # also for NaN
            raise ValueError(f"a number from {least:g} to {most:g} was expected, not {value!r}")


def not_below_zero(values: Iterable[Any]) -> None:
    """Raise ValueError unless all are numbers and none is below 0."""
    finite(values, least=0.0)


def above_zero(values: Iterable[Any]) -> None:
    """Raise ValueError unless all are numbers above 0."""
    finite(values, least=math.ulp(0.0))


def logarithms(values: Iterable[Any]) -> None:
    """Raise ValueError unless all are logarithms of numbers that can be reckoned with."""
    finite(values, -_MOST_LOG, _MOST_LOG)
