"""From signals to 0–100. Pure.

| signal | at most | none below | all from |
|---|---|---|---|
| intervals between creations that are all alike | 30 | a spread of half their mean | a tenth |
| prompts nearly like one before | 20 | half of them | nine of ten |
| pictures always as large as the tier allows | 15 | half of them | nine of ten |
| new visitors that create behind one address, in an hour | 30 | 3 | 10 |
| addresses with one browser's headers, in an hour | 15 | 20 | 100 |
| address in a listed network | 40 | | |

The first three are the caller's own doing and count from eight creations on. What newcomers to an address make together
is looked at in the same way, and what is worse about it counts with the doing of others. Nobody else's doing puts a caller
above 55, so a neighbour behind one address is never told off. A pause of a minute halves all but what is listed: half a
minute after its last job even the worst caller is below 80.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev

_HIGHEST = 100.0
_LISTED, _OTHERS = 40.0, 55.0
_LEAST_CREATIONS = 8
_HALVES_S = 60.0


@dataclass(frozen=True, slots=True)
class Doing:
    """What was made, when (Unix seconds, oldest first), and which shares of it are `alike` and as large as can be."""

    creations_s: Sequence[float] = ()
    alike: float = 0.0
    largest: float = 0.0


_NOTHING = Doing()


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a caller.

    `together` is what all newcomers to its address made, for a newcomer; `newcomers` and `places` are counts of the last
    hour.
    """

    own: Doing = _NOTHING
    together: Doing = _NOTHING
    newcomers: int = 0
    places: int = 0
    listed: bool = False


def score(signals: Signals, now_s: float) -> int:
    """Return the score."""
    listed = _LISTED if signals.listed else 0.0
    own, together = _even(signals.own), _even(signals.together)
    elsewhere = _part(30.0, signals.newcomers, 3, 10) + _part(15.0, signals.places, 20, 100) + listed
    others = min(_OTHERS, elsewhere + max(0.0, together - own))
    last = signals.own if signals.own.creations_s else signals.together
    now = min(_HIGHEST, own + others) * _lasting(last.creations_s, now_s)
    return round(max(listed, now, others * _lasting(signals.together.creations_s or last.creations_s, now_s)))


def _even(doing: Doing) -> float:
    if len(doing.creations_s) < _LEAST_CREATIONS:
        return 0.0
    regular = 30.0 - _part(30.0, _spread(doing.creations_s), 0.1, 0.5)
    return regular + _part(20.0, doing.alike, 0.5, 0.9) + _part(15.0, doing.largest, 0.5, 0.9)


def _spread(times_s: Sequence[float]) -> float:
    """Return the standard deviation of the intervals over their mean: near 1 for people, near 0 for a timer."""
    gaps = [later - earlier for earlier, later in pairwise(times_s)]
    mean_s = fmean(gaps)
    return pstdev(gaps, mean_s) / mean_s if mean_s > 0.0 else 0.0


def _lasting(times_s: Sequence[float], now_s: float) -> float:
    idle_s = max(0.0, now_s - times_s[-1]) if times_s else 0.0
    return float(0.5 ** (idle_s / _HALVES_S))


def _part(most: float, value: float, none_at: float, all_at: float) -> float:
    return most * min(1.0, max(0.0, (value - none_at) / (all_at - none_at)))
