"""Keys that are suddenly used a lot from a network where they never were: what a stolen key looks like.

What keys usually do is learnt in memory, from the first hour of a key on; a rate limiter that starts anew learns anew.
Nobody is refused for it: the tenant is told by an event, once a day for each key and network.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field

from libs.account_events import EventKind
from libs.clock import Clock
from libs.errors import Unavailable
from libs.ids import KeyId, TenantId
from services.ratelimiter import agent
from services.ratelimiter.abuse.memory import Memory
from services.ratelimiter.balances.days import DAY_S, number_of
from services.ratelimiter.door.callers import Caller, Question, Recogniser
from services.ratelimiter.strangers.addresses import network
from services.ratelimiter.tenants.events import TenantEvent, TenantEvents, event_of

logger = logging.getLogger(__name__)

_LIFE_S, _LEARNING_S, _NEW_S, _WINDOW_S = 7.0 * DAY_S, 3600.0, DAY_S, 600.0
_LEAST, _TIMES = 20, 3.0  # a spike is so many creating requests in ten minutes, and so many times the most before
_MOST_USES, _MOST_NETWORKS, _MOST_WAITING = 1000, 64, 1000
_WRITE_EVERY_S, _AT_ONCE = 10.0, 50


@dataclass(slots=True)
class Habits:
    """What one key does; times in Unix seconds."""

    known_s: dict[str, float] = field(default_factory=dict)  # networks, by when they were first seen
    uses: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_MOST_USES))
    busiest: int = 0  # most uses in ten minutes from networks that were not new

    def used(self, place: str, now_s: float) -> int:
        """Note a use; returns how many of the last ten minutes make a spike from this new network, 0 for none."""
        first_s = min(self.known_s.values(), default=now_s)
        seen_s = self.known_s.setdefault(place, now_s)
        while len(self.known_s) > _MOST_NETWORKS:
            del self.known_s[max(self.known_s, key=lambda one: self.known_s[one])]
        self.uses.append((now_s, place))
        while self.uses[0][0] <= now_s - _WINDOW_S:
            self.uses.popleft()
        count = sum(one == place for _, one in self.uses)
        if seen_s - first_s < _LEARNING_S or now_s - seen_s >= _NEW_S:
            self.busiest = max(self.busiest, count)
            return 0
        return count if count > max(_LEAST, _TIMES * self.busiest) else 0


class KeyWatch:
    """Remembers what keys do and tells tenants what is odd."""

    def __init__(self, events: TenantEvents, clock: Clock) -> None:
        self._events, self._clock = events, clock
        self._habits = Memory(Habits, _LIFE_S)
        self._waiting: dict[str, TenantEvent] = {}

    def used(self, tenant_id: TenantId, key_id: KeyId, address: str) -> None:
        """Note that a key wants something made from an address."""
        now_s, place = self._clock.now(), network(address)
        count = self._habits.at(key_id.encode(), now_s).used(place, now_s)
        if not count or len(self._waiting) >= _MOST_WAITING:
            return
        about, told = f"{key_id}:{place}:{number_of(now_s)}", _told(key_id, place, count)
        event = event_of(tenant_id, EventKind.KEY_IN_NEW_NETWORK, about, told, now_s)
        self._waiting.setdefault(event.id, event)

    async def run(self) -> None:
        """Write down what was noticed until cancelled."""
        await agent.repeat("the watch over keys", self._clock, _WRITE_EVERY_S, self.write)

    async def write(self) -> None:
        """Write down what was noticed since the last time; what was told today is not told again.

        A few at a time: what takes longer than the database may take would be tried again for ever.
        """
        while self._waiting:
            part = {event_id: self._waiting.pop(event_id) for event_id in [*self._waiting][:_AT_ONCE]}
            try:
                new = await self._events.add(list(part.values()))
            except Unavailable:
                self._waiting = {**part, **self._waiting}
                raise
            if new:
                logger.warning("keys are used a lot from new networks", extra={"events": [*part]})


class WatchedKeys:
    """A recogniser of keys whose callers are looked after."""

    def __init__(self, keys: Recogniser, watch: KeyWatch) -> None:
        self._keys, self._watch = keys, watch

    async def recognise(self, question: Question) -> Caller | None:
        """Return the key's tenant; None without the header. Raises Unauthenticated, LimitExceeded."""
        caller = await self._keys.recognise(question)
        if caller is not None and question.creates:
            self._watch.used(caller.tenant_id, caller.key_id, question.address)
        return caller


def _told(key_id: KeyId, place: str, count: int) -> str:
    return (
        f"Key {key_id} made {count} requests within ten minutes from {place}, a network it was not used from before. "
        f"If that is not you, make another key and withdraw this one (POST /v1/keys/{key_id}:revoke)."
    )
