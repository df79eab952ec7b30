"""What an account of a ledger holds that may have lost the latest: what usage knows, unless it kept what is newer. Pure."""

from __future__ import annotations

from dataclasses import replace

from services.ratelimiter.balance import Balance
from services.ratelimiter.bucket import Fill
from services.ratelimiter.days import Day

_SAME_S = 2.0  # usage rows and the ledger are written one after the other, by clocks that differ a little


def at_least(kept: Balance | None, known: Balance) -> Balance:
    """Return a balance with the later of both buckets, the fuller day, and the places in flight that were kept."""
    if kept is None:
        return known
    requests, units = _later(kept.requests, known.requests), _later(kept.units, known.units)
    lost = requests is not kept.requests or units is not kept.units
    return replace(
        kept,
        requests=requests,
        units=units,
        day=_fuller(kept.day, known.day),
        refills=kept.refills + lost,  # no refund is measured by what stood there before
        empty_from_s=max(kept.empty_from_s, known.empty_from_s),
    )


def _later(kept: Fill, known: Fill) -> Fill:
    return known if known.at_s > kept.at_s + _SAME_S else kept


def _fuller(kept: Day, known: Day) -> Day:
    if kept.number != known.number:
        return max(kept, known, key=lambda day: day.number)
    return Day(
        kept.number, max(kept.images, known.images), max(kept.units, known.units), max(kept.blocks, known.blocks)
    )
