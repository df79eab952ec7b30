"""What an engine has done since its start, as numbers that only grow. Written by its threads, read by every thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.modelserver.engine.reasons import Reason

_NONE: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot. A row is one image × one guidance branch of a forward."""

    ticks: int = 0  # that did something
    tick_seconds: float = 0.0  # spent in them
    busy_seconds: float = (
        0.0  # in which the device had work: passes, and encoding and decoding beside them, counted once
    )
    forwards: int = 0  # of denoisers
    rows: int = 0  # in those forwards
    seconds: float = 0.0  # spent in those forwards
    side_seconds: float = 0.0  # spent in encoding and decoding; on a CPU in the ticks, else beside them
    occupancy: Mapping[int, int] = field(default_factory=lambda: _NONE)  # rows → forwards that had so many
    splits: int = 0  # batches made smaller because memory did not suffice
    parks: int = 0
    resumes: int = 0  # of parked requests
    checkpoints: int = 0  # handed over
    swaps: int = 0  # models brought into the device's memory
    embedding_hits: int = 0  # prompts that need not be encoded again
    embedding_misses: int = 0
    unbatched: Mapping[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))


class Occupancy:
    """Counts forwards by their number of rows. One thread counts, every thread may read."""

    def __init__(self) -> None:
        self._forwards: dict[int, int] = {}
        self._lock = threading.Lock()

    def count(self, rows: int) -> None:
        """Add a forward of so many rows."""
        with self._lock:
            self._forwards[rows] = self._forwards.get(rows, 0) + 1

    def totals(self) -> Mapping[int, int]:
        """Return rows → forwards since the start; what is returned does not change any more."""
        with self._lock:
            return dict(self._forwards)
