"""The lane of jobs that waited too long: at most one of ten dispatches, or it would be first come, first served."""

from __future__ import annotations

EVERY = 10


class Lane:
    """Counts dispatches; nine others pay for one of the lane."""

    def __init__(self) -> None:
        self.used = 0
        self._paid = 0

    def copy(self) -> Lane:
        """Return one that goes its own way."""
        twin = Lane()
        twin.used, twin._paid = self.used, self._paid
        return twin

    @property
    def open(self) -> bool:
        """Whether the next dispatch may use it."""
        return self._paid >= EVERY - 1

    def count(self, *, used: bool) -> None:
        """Count a dispatch, and whether it used the lane."""
        self.used += used
        self._paid = 0 if used else min(EVERY - 1, self._paid + 1)
