"""Writing what must be written, however long the database is away."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from libs.backoff import Backoff
from libs.clock import Clock
from services.scheduler.storage.store import StoreUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def persistently(clock: Clock, action: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call of the store until the database answers it.

    Safe for changes too: each applies only to the state it expects, so one that had arrived is refused the second
    time (it returns None), and the caller reads what stands.
    """
    backoff = Backoff()
    while True:
        try:
            return await action()
        except StoreUnavailable as error:
            logger.warning("the job store does not answer, trying again", extra={"cause": str(error)})
            await clock.sleep(backoff.next_s())
