"""Whether this replica leads: one object that every part looks at."""

from __future__ import annotations

from dataclasses import dataclass

from services.scheduler.replicas.lead_store import NOBODY


@dataclass(slots=True)
class Lead:
    """`epoch` of the lead, NOBODY while this replica stands by; `serving` once its memory is rebuilt.

    A lead that was taken is never given up in place: a deposed leader ends its process.
    """

    epoch: int = NOBODY
    serving: bool = False
