"""The time by which a ledger may forget, from a clock that is put forward and back. Pure.

A clock that is ahead of what has passed since the start may have been put forward by mistake, and be put back: what was
forgotten meanwhile would be lost. Or it was behind at the start, as before its first word from NTP or in a machine that
was suspended, and is right from now on. Nobody can tell at once: a step is believed once it has lasted.
"""

from __future__ import annotations

LASTS_S = 3600.0


class TrustedTime:
    """Unix seconds, but no more of them than have passed, and what steps forward have lasted."""

    def __init__(self, now_s: float, passed_s: float) -> None:
        """Begin with the time and the seconds of a clock that nobody puts forward."""
        self._ahead_s = now_s - passed_s
        self._step_s = 0.0
        self._since_s: float | None = None

    def tell(self, now_s: float, passed_s: float) -> float:
        """Return the time that is surely over; to be asked every few seconds."""
        ahead_s = now_s - passed_s
        if ahead_s <= self._ahead_s:
            self._since_s = None
            return now_s
        self._watch(ahead_s, passed_s)
        return self._ahead_s + passed_s

    def _watch(self, ahead_s: float, passed_s: float) -> None:
        """Believe as much of a step as the clock was ahead all the time."""
        if self._since_s is None:
            self._since_s, self._step_s = passed_s, ahead_s
        self._step_s = min(self._step_s, ahead_s)
        if passed_s - self._since_s >= LASTS_S:
            self._ahead_s, self._since_s = self._step_s, None
