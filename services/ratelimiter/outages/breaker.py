"""When to stop asking a ledger that does not answer. Pure; `now_s` is monotonic.

closed ──five failures in a short time, or one loss──▶ open ──after two seconds a try──▶ closed
                                                         ▲──────────it failed──────┘
"""

from __future__ import annotations

from collections import deque

_FAILURES = 5
_WITHIN_S = 1.0  # longer where each failure takes its time
_OPEN_S = 2.0
_CALM_S = 600.0  # a ledger that goes away again sooner is in the same outage


class Breaker:
    """Counts failures. While it is open nobody asks but the one who tries whether the ledger is back."""

    def __init__(self, failure_s: float = 0.0) -> None:
        """`failure_s` is how long a call waits at most before it has failed."""
        self._within_s = _WITHIN_S + _FAILURES * failure_s
        self._exchange = 0
        self._failed: deque[float] = deque(maxlen=_FAILURES)
        self._began_s: float | None = None
        self._ended_s = 0.0
        self._out_before_s = 0.0
        self._try_from_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether to leave the ledger alone."""
        return self._began_s is not None

    def out_for_s(self, now_s: float) -> float:
        """Return how long it has been open, over all tries that failed and earlier times that ended minutes ago."""
        if self._began_s is not None:
            return self._out_before_s + now_s - self._began_s
        return self._out_before_s if now_s - self._ended_s < _CALM_S else 0.0

    def may_try(self, now_s: float) -> bool:
        """Whether it is time to see if the ledger is back."""
        return now_s >= self._try_from_s

    def failed(self, now_s: float, exchange: int = 0) -> None:
        """Count a call that had no answer; those that went out together, in one `exchange` that is not 0, count once."""
        if exchange and exchange <= self._exchange:
            return
        self._exchange = exchange or self._exchange
        self._failed.append(now_s)
        if len(self._failed) == _FAILURES and now_s - self._failed[0] <= self._within_s:
            self.open(now_s)

    def open(self, now_s: float) -> None:
        """Open it, or keep it open after a try that failed."""
        self._begin(now_s)
        self._try_from_s = now_s + _OPEN_S

    def open_at_once(self, now_s: float) -> None:
        """Open it for a ledger that answers and has lost its data: putting them back need not wait."""
        self._begin(now_s)
        self._try_from_s = now_s

    def close(self, now_s: float) -> None:
        """Ask the ledger again."""
        if self._began_s is not None:
            self._out_before_s, self._ended_s = self.out_for_s(now_s), now_s
        self._began_s = None
        self._failed.clear()

    def _begin(self, now_s: float) -> None:
        if self._began_s is None:
            self._out_before_s, self._began_s = self.out_for_s(now_s), now_s
