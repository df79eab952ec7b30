"""How long a pass of one kind takes by its number of rows, and how many rows pay. Pure; no torch.

Estimates withstand noise: the first sample counts whole, of two the smaller, then the middle one of the last five
feeds a moving average, so that outliers move nothing. The curve through them never falls with the rows.

How many rows pay is searched on powers of two: a doubling pays while it raises the throughput by `gain`. One that was
taken is given up only below `_KEEP` of that, and each time the answer turns back it stays longer, unless much is to be
gained, so that noise does not make it flap. What has not been measured is tried. What was decided against, and what it was compared with, is
measured again now and then, after four times as many passes each time, at last every `_MOST_RETRY_PASSES`; and what is
heard of so rarely is believed at once when it is shorter than thought. So bad first samples, or a device that was busy
otherwise, spoil the answer for a while and not for ever.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass

_MOST_SIZES = 96  # numbers of rows that one curve remembers
_SMOOTHING = 0.125  # weight of the newest typical sample
_RECENT = 5  # samples of which the middle one counts
_MOST_STEP = 1.5  # a sample further from the estimate counts as that far away
_KEEP = 0.8  # share of the gain that is enough to stay
_LATE_PASSES, _MOST_RETRY_PASSES = 32, 128
_STAY_PASSES, _MOST_STAY_PASSES = 32, 1024
_MUCH = 0.15  # of throughput: for that the answer turns at once
_TELLING = 0.05  # relative change of an estimate that others should hear of


@dataclass(slots=True)
class Size:
    """What is known of passes with `rows` rows. `last` is the number of the pass that was its newest sample."""

    rows: int
    seconds: float = 0.0
    samples: int = 0
    peak_bytes: int = 0  # above what was in use before the pass; 0: not measured
    recent: tuple[float, ...] = ()
    last: int = 0
    told: float = 0.0  # the estimate that others last heard of

    def take(self, seconds: float, peak_bytes: int, *, late: bool = False) -> bool:
        """Take a sample, `late` after a long while; returns whether the estimate moved so much that others should know."""
        self.samples += 1
        if late and seconds < self.seconds:
            self.recent = (max(seconds, self.seconds / _MOST_STEP),)
        else:
            self.recent = (*self.recent, seconds)[-_RECENT:]
        typical = sorted(self.recent)[(len(self.recent) - 1) // 2]
        if len(self.recent) == 1 or self.samples <= _RECENT:
            self.seconds = typical
        else:
            bounded = min(max(typical, self.seconds / _MOST_STEP), self.seconds * _MOST_STEP)
            self.seconds += _SMOOTHING * (bounded - self.seconds)
        fallen = self.peak_bytes - round(_SMOOTHING * (self.peak_bytes - peak_bytes))
        self.peak_bytes = max(peak_bytes, fallen) if peak_bytes else self.peak_bytes
        if abs(self.seconds - self.told) <= _TELLING * self.told:
            return False
        self.told = self.seconds
        return True


class Curve:
    """One kind of pass: a stage of a model at one size of pictures."""

    def __init__(self, gain: float, settled: int = 1) -> None:
        self._gain = gain
        self._sizes: dict[int, Size] = {}
        self._passes = 0
        self._times: list[tuple[int, float]] = []  # (rows, seconds), both ascending
        self._up = self._down = 0  # rows to try; 0: what is known suffices
        self._rising, self._turns, self._stays_until = True, 0, 0
        self.settled = settled  # rows that pay, as far as is known

    @property
    def sizes(self) -> tuple[Size, ...]:
        """What was measured, by rows."""
        return tuple(self._sizes[rows] for rows in sorted(self._sizes))

    def restore(self, sizes: tuple[Size, ...]) -> None:
        """Put measurements of an earlier process in place."""
        for size in sizes[:_MOST_SIZES]:
            size.recent = (size.seconds,) * min(_RECENT // 2, size.samples)
            size.told = size.seconds
            self._sizes[size.rows] = size
        self._times = _never_falling(self._sizes.values(), self._passes)

    def record(self, rows: int, seconds: float, peak_bytes: int) -> bool:
        """Take a sample; returns whether others should hear of it."""
        self._passes += 1
        if rows not in self._sizes and len(self._sizes) >= _MOST_SIZES:
            del self._sizes[min(self._sizes.values(), key=lambda size: size.last).rows]
        size = self._sizes.setdefault(rows, Size(rows))
        told = size.take(seconds, peak_bytes, late=self._passes - size.last > _LATE_PASSES)
        size.last = self._passes
        before = self.settled
        self._settle()
        return told or self.settled != before

    def seconds(self, rows: int) -> float:
        """Return the seconds of a pass: as measured, between two measured sizes, or beyond them."""
        times = self._times
        first, last = times[0], times[-1]
        if rows >= last[0]:
            return _beyond(times, rows)
        if len(times) == 1:
            return first[1]
        if rows <= first[0]:  # at least in proportion, at most as much
            flat, proportional = first[1], first[1] * rows / first[0]
            return min(flat, max(proportional, first[1] - _slope(first, times[1]) * (first[0] - rows)))
        above = next(index for index, (known, _) in enumerate(times) if known > rows)
        start, end = times[above - 1], times[above]
        return start[1] + _slope(start, end) * (rows - start[0])

    def peak_bytes(self, rows: int) -> int | None:
        """Return the most memory of a pass above what was in use before; beyond what was measured in proportion."""
        known = [(0, 0)]  # (rows, bytes), both rising
        for size in self.sizes:
            if size.peak_bytes:
                known.append((size.rows, max(known[-1][1], size.peak_bytes)))
        if len(known) == 1:
            return None
        if rows <= known[1][0]:
            return known[1][1]
        above = next((index for index, (measured, _) in enumerate(known) if measured >= rows), len(known))
        if above < len(known):
            return _on_line(known[above - 1], known[above], rows)
        return max(_on_line(known[0], known[-1], rows), _on_line(known[-2], known[-1], rows))

    def best_rows(self, most: int) -> int:
        """Return how many rows to run, 1 to `most`: what pays, or what is worth a try."""
        turn = self._passes % 2 == 0 or not self._down  # in turn, for so many rows may never come together
        if self._up and turn and _nearly(self._up) <= most:
            return min(most, self._up)
        return max(1, min(most, self._down or self.settled))

    def room(self, most: int) -> int:
        """Return how many rows are worth having at hand, 1 to `most`; a try with fewer rows does not change it."""
        return max(1, min(most, max(self._up, self.settled)))

    def _settle(self) -> None:
        self._times = _never_falling(self._sizes.values(), self._passes)
        smallest, largest = self._times[0][0], self._times[-1][0]
        if smallest == largest:
            self.settled, self._up = smallest, 2 * smallest
        else:
            self._walk(smallest, _reach(largest))
        self._down = self.settled // 2 if self._is_due(self.settled // 4, self.settled // 2) else 0

    def _walk(self, smallest: int, reach: int) -> None:
        rows = more = 2 ** (smallest.bit_length() - 1)
        while (more := 2 * more) <= reach:  # to the end: one size that is thought too slow hides no larger one
            if self._pays(rows, more):
                rows = more
        between, refuted = 3 * rows // 2, 2 * rows <= reach
        refined = refuted and between > rows and self._pays(rows, between)
        if not self._turn_to(between if refined else max(rows, smallest)):
            self._up = 0
        elif not refuted:
            self._up = 2 * rows
        else:
            known = between if refined else _nearly(2 * rows) - 1
            self._up = 2 * rows if self._is_due(known, _reach(2 * rows)) else 0

    def _turn_to(self, rows: int) -> bool:
        """Take this as the answer; False while an answer of the other direction has to stay."""
        rising = rows > self.settled
        if rows != self.settled and rising != self._rising:
            gained = rows * self.seconds(self.settled) / (self.settled * self.seconds(rows))
            if self._passes < self._stays_until and gained < 1 + _MUCH:
                return False
            self._rising, self._turns = rising, self._turns + 1
            self._stays_until = self._passes + min(_MOST_STAY_PASSES, _STAY_PASSES * 2 ** min(self._turns, 10))
        self.settled = rows
        return True

    def _pays(self, fewer: int, more: int) -> bool:
        gain = self._gain * (_KEEP if self.settled >= more else 1.0)
        wanted = (1 + gain) ** math.log2(more / fewer)
        return bool(more * self.seconds(fewer) >= wanted * fewer * self.seconds(more))

    def _is_due(self, above: int, most: int) -> bool:
        """Return whether it is time to measure a size above `above` up to `most` rows, again or at all."""
        known = [size for size in self._sizes.values() if above < size.rows <= most]
        samples = sum(size.samples for size in known)
        newest = max((size.last for size in known), default=-1)
        return most > 0 and self._passes - newest >= min(_MOST_RETRY_PASSES, 4 ** min(samples, 6))


def _reach(rows: int) -> int:
    """Return up to where a size that was measured says enough of larger ones."""
    return round(rows * 4 / 3)


def _nearly(rows: int) -> int:
    """Return how many rows are as good as `rows` to measure it: requests do not come in every number of rows."""
    return -(-3 * rows // 4)


def _on_line(start: tuple[int, int], end: tuple[int, int], rows: int) -> int:
    """Return the bytes of `rows` on the line through two points, rounded up."""
    rise, run = end[1] - start[1], end[0] - start[0]
    return start[1] - (-rise * (rows - start[0])) // run


def _slope(start: tuple[int, float], end: tuple[int, float]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


def _beyond(times: list[tuple[int, float]], rows: int) -> float:
    first, last = times[0], times[-1]
    if len(times) == 1:
        return last[1] * rows / last[0]
    slope = max(_slope(times[-2], last), _slope(first, last))
    return last[1] + slope * (rows - last[0])


def _never_falling(sizes: Iterable[Size], passes: int) -> list[tuple[int, float]]:
    """Return (rows, seconds) by rows. Where two contradict, the better known stands and the other is put level with it.

    Better known is what has more samples, then what was measured of late, then what is shorter.
    """
    times: list[tuple[int, float]] = []
    for size in sorted(sizes, key=lambda s: (-min(s.samples, _RECENT), passes - s.last > _LATE_PASSES, s.seconds)):
        place = bisect.bisect(times, (size.rows,))
        least = times[place - 1][1] if place else 0.0
        most = times[place][1] if place < len(times) else math.inf
        times.insert(place, (size.rows, min(max(size.seconds, least), most)))
    return times
