"""How long to wait before trying a peer again."""

from __future__ import annotations

import random


class Backoff:
    """Doubling waits with jitter, so that many processes do not come back in step."""

    def __init__(self, first_s: float = 0.1, most_s: float = 2.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the wait before the next attempt, within half and one and a half of the step."""
        step_s, self._next_s = self._next_s, min(self._most_s, self._next_s * 2)
        return step_s * random.uniform(0.5, 1.5)

    def reset(self) -> None:
        """Start over: the peer answered."""
        self._next_s = self._first_s
