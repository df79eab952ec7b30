"""When accounts may be forgotten, so that nobody has to look at those that may not. Pure.

An account stands here once, at a moment that is never later than its end: an end that moves on is found when the moment
has come, and expected anew. So what is taken from an account a thousand times a day costs one look a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush

from services.ratelimiter.balances.scope import AccountId


class Ends:
    """Accounts by the moment (Unix seconds) at which to look at them."""

    def __init__(self, known: Iterable[tuple[float, AccountId]] = ()) -> None:
        self._moments = list(known)
        self._expected = {account: moment_s for moment_s, account in self._moments}
        heapify(self._moments)

    def __len__(self) -> int:
        """How many moments are kept, those that were brought forward among them."""
        return len(self._moments)

    def expect(self, account: AccountId, end_s: float) -> None:
        """Look at an account at its end; one that is looked at before that anyway is not noted again."""
        if end_s < self._expected.get(account, float("inf")):
            self._expected[account] = end_s
            heappush(self._moments, (end_s, account))

    def reached(self, now_s: float, most: int) -> Iterator[AccountId]:
        """Take out, one by one, up to `most` accounts whose moment has come; expect again what has not ended."""
        while most and self._moments and self._moments[0][0] <= now_s:
            moment_s, account = heappop(self._moments)
            if self._expected.get(account) == moment_s:
                most -= 1
                del self._expected[account]
                yield account
