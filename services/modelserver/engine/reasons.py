"""Why rows that waited did not share the forward that ran: a closed list, and a counter of it."""

from __future__ import annotations

import enum
import threading
from collections.abc import Mapping


class Reason(enum.Enum):
    """What kept rows out of a forward; values are the labels of `darkroom_batch_not_shared_total`."""

    OTHER_MODEL = "other_model"  # weights of another model or version
    OTHER_SIZE = "other_size"  # latents of another shape
    OTHER_ADAPTERS = "other_adapters"  # another set of LoRA, or the same with other weights
    OTHER_TOPOLOGY = "other_topology"  # conditions of another kind or length
    CANNOT_SHARE = "cannot_share"  # the denoiser's rows are not known to be independent
    DOES_NOT_PAY = "does_not_pay"  # more rows would draw no faster, as the batch table has it
    NO_MEMORY = "no_memory"  # more rows would not fit
    ALONE = "alone"  # nothing else waited


class Unbatched:
    """Counts rows by reason. One thread counts, every thread may read."""

    def __init__(self) -> None:
        self._rows = dict.fromkeys(Reason, 0)
        self._lock = threading.Lock()

    def count(self, reason: Reason, rows: int) -> None:
        """Add rows that were left out; for ALONE those that had no company."""
        with self._lock:
            self._rows[reason] += rows

    def totals(self) -> Mapping[Reason, int]:
        """Return the rows since the start, for every reason; what is returned does not change any more."""
        with self._lock:
            return dict(self._rows)
