"""Only one scheduler dispatches: the leader epoch in SQL is the fence, and every write of the leader carries it.

There is one scheduler now, so it takes the lead when it starts, and whoever led before is deposed by that. The
election between replicas (libs.coordination.election) takes its place here; it will only suggest who calls `take`.
A deposed leader does not step down in place: `Deposed` leaves its agent, ends the task group and the process.
"""

from __future__ import annotations

import logging
import secrets

from libs.clock import Clock
from services.scheduler.persistence import persistently
from services.scheduler.store import JobStore

logger = logging.getLogger(__name__)


async def take(store: JobStore, clock: Clock) -> int:
    """Take the lead and return its epoch; waits for the database."""
    holder = f"scheduler-{secrets.token_hex(4)}"  # new with every start: a name that comes again proves nothing
    epoch = await persistently(clock, lambda: store.take_lead(holder, clock.now()))
    logger.info("took the lead", extra={"epoch": epoch, "holder": holder})
    return epoch
