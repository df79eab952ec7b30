"""When to stop asking a ledger that does not answer. Pure; `now_s` is monotonic.

closed ──five failures within a second, or one loss──▶ open ──after two seconds a try──▶ closed
                                                         ▲──────────it failed──────┘
"""

from __future__ import annotations

from collections import deque

_FAILURES = 5
_WITHIN_S = 1.0
_OPEN_S = 2.0


class Breaker:
    """Counts failures. While it is open nobody asks but the one who tries whether the ledger is back."""

    def __init__(self) -> None:
        self._failed: deque[float] = deque(maxlen=_FAILURES)
        self._began_s: float | None = None
        self._try_from_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether to leave the ledger alone."""
        return self._began_s is not None

    def out_for_s(self, now_s: float) -> float:
        """Return how long it has been open, over all tries that failed; 0 when it is closed."""
        return 0.0 if self._began_s is None else now_s - self._began_s

    def may_try(self, now_s: float) -> bool:
        """Whether it is time to see if the ledger is back."""
        return now_s >= self._try_from_s

    def failed(self, now_s: float) -> None:
        """Count a call that had no answer."""
        self._failed.append(now_s)
        if len(self._failed) == _FAILURES and now_s - self._failed[0] <= _WITHIN_S:
            self.open(now_s)

    def open(self, now_s: float) -> None:
        """Open it, or keep it open after a try that failed."""
        self._began_s = now_s if self._began_s is None else self._began_s
        self._try_from_s = now_s + _OPEN_S

    def open_at_once(self, now_s: float) -> None:
        """Open it for a ledger that answers and has lost its data: putting them back need not wait."""
        self._began_s = now_s if self._began_s is None else self._began_s
        self._try_from_s = now_s

    def close(self) -> None:
        """Ask the ledger again."""
        self._began_s = None
        self._failed.clear()
