"""A dictionary that forgets: what was not touched for its life, and the rest of it when there is too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_MOST = 20_000

T = TypeVar("T")


class Memory(Generic[T]):
    """Keeps things by hashes; times in Unix seconds."""

    def __init__(self, make: Callable[[], T], life_s: float, most: int = _MOST) -> None:
        self._make, self._life_s, self._most = make, life_s, most
        self._kept: dict[bytes, tuple[float, T]] = {}  # the one touched longest ago first

    def at(self, key: bytes, now_s: float) -> T:
        """Return what is kept for a key, made anew when there is nothing; touches it."""
        found = self.find(key, now_s)
        value = self._make() if found is None else found
        self._kept.pop(key, None)
        self._kept[key] = (now_s, value)
        self._forget(now_s)
        return value

    def find(self, key: bytes, now_s: float) -> T | None:
        """Return what is kept for a key."""
        touched_s, value = self._kept.get(key, (0.0, None))
        return value if now_s - touched_s < self._life_s else None

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._kept)

    def _forget(self, now_s: float) -> None:
        while self._kept:
            oldest = next(iter(self._kept))
            if len(self._kept) <= self._most and now_s - self._kept[oldest][0] < self._life_s:
                return
            del self._kept[oldest]
