"""Which usage a caller asks for: its days with what is left open filled in, and what to add up by. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from libs.errors import InvalidRequest, Violation, listed

PARTS = ("day", "model", "key")
_USUAL_DAYS, _MOST_DAYS = 30, 93


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Days of UTC, both included, and the parts in the order they were asked for."""

    from_day: date
    to_day: date
    by: tuple[str, ...]


def read(from_text: str, to_text: str, by: Iterable[str], now_s: float) -> UsageQuery:
    """Return what is asked for. Raises InvalidRequest naming all that is wrong with it."""
    problems: list[Violation] = []
    parts = _parts(by)
    if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
        problems.append(Violation("by", f"must be some of {', '.join(PARTS)}, each once"))
    first, last = _day("from", from_text, problems), _day("to", to_text, problems)
    if not problems:
        last = last or datetime.fromtimestamp(now_s, UTC).date()
        first = first or last - min(timedelta(days=_USUAL_DAYS - 1), last - date.min)
        problems += _span_problems(first, last, "today" if not to_text else "`to`")
    if problems or first is None or last is None:
        raise InvalidRequest(f"This usage cannot be read: {listed(problems)}.", violations=problems)
    return UsageQuery(first, last, parts or PARTS[:1])


def continued(from_day: str, to_day: str, by: Iterable[str]) -> UsageQuery:
    """Return what a page after the first is about: the days that were found then, and parts that were good then."""
    return UsageQuery(date.fromisoformat(from_day), date.fromisoformat(to_day), _parts(by) or PARTS[:1])


def _parts(by: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for text in by for name in text.split(",") if name.strip())


def _span_problems(first: date, last: date, end: str) -> list[Violation]:
    if first > last:
        return [Violation("from", f"must not be after {end}")]
    if (last - first).days >= _MOST_DAYS:
        return [Violation("from", f"must be at most {_MOST_DAYS - 1} days before {end}: ask for the rest by itself")]
    return []


def _day(name: str, text: str, problems: list[Violation]) -> date | None:
    """Return a day; None for none, and for what is none, which is noted."""
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:  # other forms of ISO 8601 are left to others
        problems.append(Violation(name, "must be a day of the calendar like 2026-11-21"))
        return None
    return found
