"""What a day in UTC has seen. Pure; a clock that steps back stays in the day it has reached."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Day:
    """Counters of one day; `number` counts days since 1970. `blocks` are prompts that the safety check refused."""

    number: int = 0
    images: int = 0
    units: float = 0.0
    blocks: int = 0


def number_of(now_s: float) -> int:
    """Return the day of a moment."""
    return int(now_s // DAY_S)


def begin_s(now_s: float) -> float:
    """Return when the day of a moment began."""
    return number_begins_s(number_of(now_s))


def number_begins_s(number: int) -> float:
    """Return when the day of a number begins."""
    return float(number * DAY_S)


def reached(day: Day, now_s: float) -> Day:
    """Return the counters as they are now: those of a day that is over are gone."""
    number = number_of(now_s)
    return day if number <= day.number else Day(number)


def left_s(day: Day, now_s: float) -> float:
    """Return the seconds until the counters begin anew."""
    return (reached(day, now_s).number + 1) * DAY_S - now_s


def add(day: Day, of_day: int, images: int, units: float, now_s: float) -> Day:
    """Count more, or less where negative; what belongs to a day that is over changes nothing.

    What belongs to a day that is still to come begins it: another account has reached it by a clock that was fast.
    """
    now = reached(day, max(now_s, number_begins_s(of_day)))
    if of_day < now.number:
        return now
    return Day(now.number, max(0, now.images + images), max(0.0, now.units + units), now.blocks)


def block(day: Day, now_s: float) -> Day:
    """Count a refused prompt."""
    now = reached(day, now_s)
    return Day(now.number, now.images, now.units, now.blocks + 1)
