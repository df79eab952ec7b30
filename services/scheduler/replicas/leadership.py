"""Only one scheduler dispatches: the leader epoch in SQL is the fence, and every write of the leader carries it.

On a file there is one scheduler by arrangement: it takes the lead when it starts, and whoever led before is deposed by
that. On a server's database the replicas are candidates of an election (candidacy). A deposed leader does not step down
in place: `Deposed` leaves its agent, ends the task group and the process.
"""

from __future__ import annotations

import logging
import secrets

from libs.clock import Clock
from services.scheduler.storage.persistence import persistently
from services.scheduler.storage.store import JobStore

logger = logging.getLogger(__name__)


def new_holder() -> str:
    """Return the name of this process as a holder of the lead; new with every start: a name that returns proves nothing."""
    return f"scheduler-{secrets.token_hex(4)}"


async def take(store: JobStore, clock: Clock, holder: str = "") -> int:
    """Take the lead without an election and return its epoch; waits for the database."""
    name = holder or new_holder()
    epoch = await persistently(clock, lambda: store.take_lead(name, clock.now()))
    logger.info("took the lead", extra={"epoch": epoch, "holder": name})
    return epoch
