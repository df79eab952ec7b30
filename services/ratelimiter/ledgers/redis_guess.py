"""What this process saw last in Redis: mostly it is still so, and a write that compares need not look before.

A wrong guess costs nothing: the script finds it out and answers with the documents, which a look would have brought.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from libs.clock import Clock
from services.ratelimiter.ledgers.redis_line import Found

_MOST = 20_000  # documents of less than a kilobyte


class Guess:
    """Remembers documents and the time; a name that it does not know is guessed to be free."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._documents: OrderedDict[str, bytes | None] = OrderedDict()
        self._ahead_s: float | None = None

    def of(self, names: Sequence[str]) -> Found | None:
        """Return what is guessed to be found; None before Redis has told its time.

        The time is never before Redis's own: it is behind by as long as the last answer travelled.
        """
        if self._ahead_s is None:
            return None
        return Found(self._machine.monotonic() + self._ahead_s, [self._documents.get(name) for name in names])

    def saw(self, documents: Mapping[str, bytes | None], now_s: float) -> None:
        """Take what is known to stand there."""
        self._ahead_s = now_s - self._machine.monotonic()
        for name, document in documents.items():
            self._documents[name] = document
            self._documents.move_to_end(name)
        while len(self._documents) > _MOST:
            self._documents.popitem(last=False)

    def heard(self, documents: Mapping[str, bytes | None], now_s: float) -> None:
        """Take what stands there now only of what it remembers anyway: the many of a renewal are not asked for soon."""
        self._ahead_s = now_s - self._machine.monotonic()
        self._documents.update({name: text for name, text in documents.items() if name in self._documents})
