"""What callers are told when the database or the lead is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from libs.errors import Unavailable
from services.scheduler.storage.store import Deposed, StoreUnavailable

RETRY_AFTER_S = 2.0


@contextmanager
def told_to_callers() -> Iterator[None]:
    """Turn the faults of the store inside the block into errors that callers can act on."""
    try:
        yield
    except StoreUnavailable as error:
        told = "The job store does not answer. Nothing that was accepted is lost; the same request may succeed soon."
        raise Unavailable(told, metadata={"part": "store"}, retry_after_s=RETRY_AFTER_S) from error
    except Deposed as error:
        told = "Another scheduler has taken over. The same request may succeed in a moment."
        raise Unavailable(told, metadata={"part": "scheduler"}, retry_after_s=RETRY_AFTER_S) from error
