"""Everything that looks out for machines and stolen keys, put together."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from libs.clock import Clock
from services.ratelimiter.abuse.key_watch import KeyWatch
from services.ratelimiter.abuse.reputation import Reputation
from services.ratelimiter.abuse.watch import Watch
from services.ratelimiter.tenants.events import TenantEvents


class Lookout:
    """The watches over strangers and over keys."""

    def __init__(self, lists: Sequence[str], events: TenantEvents, clock: Clock) -> None:
        """Read the lists of networks. Raises BadNetworks."""
        self._reputation = Reputation(lists, clock)
        self.strangers = Watch(self._reputation, clock)
        self.keys = KeyWatch(events, clock)

    def loops(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Return what must run all the time."""
        return self._reputation.run(), self.keys.run()
