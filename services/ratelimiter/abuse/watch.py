"""What callers without a key have done lately: in memory, by hashes with a key of this process, two days at most.

What those make who came to an address today is also looked at together, as their day is counted: a new cookie is no new
leaf. What each has made itself is kept apart, so that nobody answers for its neighbours.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.clock import Clock
from libs.ids import TenantId
from services.ratelimiter.abuse.memory import Memory
from services.ratelimiter.abuse.reputation import Reputation
from services.ratelimiter.abuse.score import Doing, Signals, score
from services.ratelimiter.strangers.ages import came_today

_LIFE_S, _HOUR_S = 48 * 3600.0, 3600.0
_CREATIONS = 32  # of one caller, the latest
_SEEN = 128  # of visitors behind an address, of addresses with a fingerprint
_NEAR_BITS = 6  # of 64 by which the hashes of prompts differ that say nearly the same
_COARSE = ("accept-language", "sec-ch-ua", "sec-ch-ua-platform", "user-agent")
_NOTHING = Doing()


@dataclass(frozen=True, slots=True)
class Creation:
    """One job; `prompt` is a hash that near-duplicates nearly share, None where nothing is known of it."""

    at_s: float
    prompt: int | None
    largest: bool


@dataclass(slots=True)
class _Trail:
    creations: deque[Creation] = field(default_factory=lambda: deque(maxlen=_CREATIONS))
    doing: Doing = field(default_factory=Doing)  # of all of them: every request asks for it, few add to it

    def add(self, made: Creation) -> None:
        self.creations.append(made)
        self.doing = _doing(tuple(self.creations))


@dataclass(slots=True)
class _Seen:
    at_s: dict[bytes, float] = field(default_factory=dict)  # the one seen longest ago first

    def note(self, who: bytes, now_s: float) -> None:
        self.at_s.pop(who, None)
        self.at_s[who] = now_s
        while len(self.at_s) > _SEEN:
            del self.at_s[next(iter(self.at_s))]

    def since(self, since_s: float) -> int:
        return sum(at_s > since_s for at_s in self.at_s.values())


class Watch:
    """Remembers and scores."""

    def __init__(self, reputation: Reputation, clock: Clock) -> None:
        self._reputation, self._clock = reputation, clock
        self._key, self._mask = secrets.token_bytes(32), secrets.randbits(64)
        self._trails, self._together = Memory(_Trail, _LIFE_S), Memory(_Trail, _LIFE_S)
        self._visitors, self._places = Memory(_Seen, _LIFE_S), Memory(_Seen, _LIFE_S)

    def created(self, tenant_id: TenantId, address: str, prompt: int | None, *, largest: bool) -> None:
        """Remember a job that was let in, of a caller at a counted address."""
        now_s, who = self._clock.now(), self._hash(tenant_id)
        hidden = None if prompt is None else prompt ^ self._mask  # which changes no distance between two
        made = Creation(now_s, hidden, largest)
        self._trails.at(who, now_s).add(made)
        if came_today(tenant_id, now_s):
            place = self._hash(address)
            self._together.at(place, now_s).add(made)
            self._visitors.at(place, now_s).note(who, now_s)

    def came(self, headers: Mapping[str, str], address: str) -> None:
        """Remember that a browser with these headers wants something made at a counted address."""
        now_s = self._clock.now()
        self._places.at(self._fingerprint(headers), now_s).note(self._hash(address), now_s)

    def score(self, tenant_id: TenantId, headers: Mapping[str, str], address: str, exact: str) -> int:
        """Return 0 to 100 for a caller at a counted address, of which `exact` is the one that called."""
        now_s, place = self._clock.now(), self._hash(address)
        own = self._trails.find(self._hash(tenant_id), now_s)
        together = self._together.find(place, now_s) if came_today(tenant_id, now_s) else None
        visitors = self._visitors.find(place, now_s)
        places = self._places.find(self._fingerprint(headers), now_s)
        signals = Signals(
            own=own.doing if own else _NOTHING,
            together=together.doing if together else _NOTHING,
            newcomers=visitors.since(now_s - _HOUR_S) if visitors else 0,
            places=places.since(now_s - _HOUR_S) if places else 0,
            listed=self._reputation.lists(exact),
        )
        return score(signals, now_s)

    def _fingerprint(self, headers: Mapping[str, str]) -> bytes:
        return self._hash("\0".join(headers.get(name, "") for name in _COARSE))

    def _hash(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16, key=self._key).digest()


def _doing(creations: tuple[Creation, ...]) -> Doing:
    return Doing(
        creations_s=[creation.at_s for creation in creations],
        alike=_alike(creations),
        largest=sum(creation.largest for creation in creations) / len(creations),
    )


def _alike(creations: tuple[Creation, ...]) -> float:
    """Return the share of prompts that nearly say what one before them says."""
    known = [creation.prompt for creation in creations if creation.prompt is not None]
    near = sum(any((one ^ other).bit_count() <= _NEAR_BITS for other in known[:at]) for at, one in enumerate(known))
    return near / max(1, len(known) - 1)
