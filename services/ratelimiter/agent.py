"""The frame of a loop that must not end: do, wait, and after a failure wait longer and try again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from libs.backoff import Backoff
from libs.clock import Clock
from libs.errors import Unavailable

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 30.0


async def repeat(name: str, clock: Clock, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
    """Run `work` every `every_s` seconds until cancelled."""
    backoff = Backoff(every_s, max(every_s, _LONGEST_WAIT_S))
    while True:
        wait_s = every_s
        try:
            await work()
            backoff.reset()
        except Unavailable as error:
            wait_s = backoff.next_s()
            logger.warning("%s waits for a peer", name, extra={"reason": error.message, "wait_s": round(wait_s, 1)})
        except Exception:
            wait_s = backoff.next_s()
            logger.exception("%s failed and goes on", name)
        await clock.sleep(wait_s)
