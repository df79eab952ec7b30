"""Who is calling: keys are made, listed, withdrawn and recognised here. A withdrawal made here works at once."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from libs import scopes
from libs.clock import Clock
from libs.errors import PreconditionFailed, Unauthenticated, Unavailable
from libs.ids import KeyId, TenantId, new_key_id
from libs.scopes import Scopes
from services.ratelimiter import agent
from services.ratelimiter.balances.days import DAY_S
from services.ratelimiter.keys import form as keys
from services.ratelimiter.keys.accounts import Accounts, KeptKey, Key, KeyPlace

logger = logging.getLogger(__name__)

_Kept = TypeVar("_Kept")

_CACHED_S = 3.0  # a key that another process withdrew works no longer than this
_CACHED_KEYS = 10_000
_UNKNOWN_S, _UNKNOWN_KEYS = 3.0, 10_000  # nobody knows a key before it is made: one that is unknown stays so
_WRITE_USE_EVERY_S = 10.0
_FORGET_EVERY_S, _ENDED_KEPT_S = 3600.0, 30.0 * DAY_S
_USE_GRAIN_S = 60.0  # "last used" is right to the minute
_ADVICE = "Send `Authorization: Bearer dk_…` with a key of `darkroom keys create`, or no Authorization at all."


@dataclass(frozen=True, slots=True)
class _Cached:
    kept: KeptKey
    until_s: float


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new key, its secret, and the key in whose place it came."""

    key: Key
    secret: str
    replaced: Key


class Keyring:
    """Recognises keys through a cache of seconds; lookups are by hash, compared in constant time."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts, self._clock = accounts, clock
        self._cache: dict[bytes, _Cached] = {}  # oldest first
        self._unknown_until_s: dict[bytes, float] = {}  # oldest first
        self._used_s: dict[KeyId, float] = {}

    def remembers(self, secret: str) -> bool:
        """Whether this was a key lately, or the answer needs no look-up: nobody need be held up who asks."""
        digest = keys.digest(secret)
        return digest in self._cache or self._is_unknown(digest) or not keys.is_well_formed(secret)

    async def authenticate(self, secret: str) -> Key:
        """Return the key of a secret. Raises Unauthenticated for one that is malformed, unknown, withdrawn or expired."""
        if not keys.is_well_formed(secret):
            raise Unauthenticated(f"This is not an API key. Nothing was charged. {_ADVICE}")
        digest = keys.digest(secret)
        kept = await self._lookup(digest)
        if kept is None or not hmac.compare_digest(kept.digest, digest):
            raise Unauthenticated(f"This API key is not known here. Nothing was charged. {_ADVICE}")
        fault = _fault(kept.key, self._clock.now())
        if fault is not None:
            raise fault
        self._note_use(kept.key)
        return kept.key

    async def create(
        self,
        tenant_id: TenantId,
        tier: str,
        name: str,
        allowed: Scopes = scopes.USUAL,
        lifetime_s: float | None = None,
        latest_s: float | None = None,
    ) -> tuple[Key, str]:
        """Make a key; returns it and its secret, which is kept nowhere. One without a lifetime works until withdrawn.

        It ends at `latest_s` at the latest. Raises PreconditionFailed when that is over.
        """
        secret, now_s = keys.new_secret(), self._clock.now()
        key = Key(
            new_key_id(), tenant_id, tier, keys.prefix_of(secret), name, now_s, scopes=allowed,
            expires_s=_end(now_s, lifetime_s, latest_s),
        )  # fmt: skip
        await self._accounts.add(KeptKey(key, keys.digest(secret)))
        logger.info("made a key", extra={"key_id": key.id, "tenant_id": tenant_id})
        return key, secret

    async def rotate(self, key_id: KeyId, overlap_s: float, latest_s: float | None = None) -> Rotation:
        """Make a key in the place of one, which goes on for `overlap_s`; the new one lasts as long as that was to last.

        It ends at `latest_s` at the latest. Raises NotFound, and PreconditionFailed when that is over, or for a key that
        works no more or was replaced before.
        """
        old = await self._accounts.get(key_id)
        secret, now_s = keys.new_secret(), self._clock.now()
        lifetime_s = None if old.expires_s is None else old.expires_s - old.created_s
        key = Key(
            new_key_id(), old.tenant_id, old.tier, keys.prefix_of(secret), old.name, now_s, scopes=old.scopes,
            expires_s=_end(now_s, lifetime_s, latest_s),
        )  # fmt: skip
        replaced = await self._accounts.replace(key_id, KeptKey(key, keys.digest(secret)), now_s + overlap_s)
        self._forget(key_id)
        logger.info("replaced a key", extra={"key_id": key_id, "by": key.id, "tenant_id": key.tenant_id})
        return Rotation(key, secret, replaced)

    async def list(self, tenant_id: TenantId | None) -> Sequence[Key]:
        """Return keys of a tenant, or of all, oldest first; of very many, those that work or ended last."""
        return await self._accounts.list(tenant_id)

    async def page(self, tenant_id: TenantId, most: int, after: KeyPlace | None) -> Sequence[Key]:
        """Return keys of a tenant, oldest first; those behind a place where it is given."""
        return await self._accounts.page(tenant_id, most, after)

    async def get(self, key_id: KeyId) -> Key:
        """Return a key. Raises NotFound."""
        return await self._accounts.get(key_id)

    async def working(self, tenant_id: TenantId) -> int:
        """Return how many keys of a tenant work."""
        return await self._accounts.working(tenant_id, self._clock.now())

    async def ended(self, key_ids: Sequence[KeyId]) -> Mapping[KeyId, Unauthenticated]:
        """Return those of some keys that work no more, with what their callers are told; never from the cache."""
        found = {key.id: key for key in await self._accounts.named(key_ids)}
        now_s = self._clock.now()
        told = {key_id: _fault(found.get(key_id), now_s) for key_id in key_ids}
        return {key_id: fault for key_id, fault in told.items() if fault is not None}

    async def revoke(self, key_id: KeyId) -> Key:
        """Withdraw a key; the next call with it is refused. Raises NotFound."""
        key = await self._accounts.revoke(key_id, self._clock.now())
        self._forget(key_id)
        logger.info("withdrew a key", extra={"key_id": key_id, "tenant_id": key.tenant_id})
        return key

    async def run(self) -> None:
        """Write down now and then when keys were last used; run until cancelled."""
        await agent.repeat("the key log", self._clock, _WRITE_USE_EVERY_S, self.write_use)

    async def retain(self) -> None:
        """Look every hour for keys that ended long ago; run until cancelled."""
        await agent.repeat("retention of keys", self._clock, _FORGET_EVERY_S, self.forget_ended)

    async def forget_ended(self) -> int:
        """Remove keys that ended 30 days ago; returns how many. What they did stays in usage under their ids."""
        before_s, gone = self._clock.now() - _ENDED_KEPT_S, 0
        while step := await self._accounts.forget_ended(before_s):
            gone += step
        if gone:
            logger.info("removed keys that ended long ago", extra={"keys": gone})
        return gone

    async def write_use(self) -> None:
        """Write down what was noted since the last time."""
        if self._used_s:
            noted, self._used_s = self._used_s, {}
            try:
                await self._accounts.mark_used(noted)
            except Unavailable:
                self._used_s = {**noted, **self._used_s}
                raise

    async def _lookup(self, digest: bytes) -> KeptKey | None:
        asked_s = self._clock.monotonic()
        cached = self._cache.get(digest)
        if cached is not None and cached.until_s > asked_s:
            return cached.kept
        if self._is_unknown(digest):
            return None
        kept = await self._accounts.find(digest)
        self._cache.pop(digest, None)
        if kept is None:
            self._unknown_until_s[digest] = asked_s + _UNKNOWN_S
            _shorten(self._unknown_until_s, _UNKNOWN_KEYS)
        else:
            # Counted from the question: a withdrawal that came while it was answered is seen as soon.
            self._cache[digest] = _Cached(kept, asked_s + _CACHED_S)
            _shorten(self._cache, _CACHED_KEYS)
        return kept

    def _is_unknown(self, digest: bytes) -> bool:
        until_s = self._unknown_until_s.get(digest)
        if until_s is not None and until_s <= self._clock.monotonic():
            del self._unknown_until_s[digest]
            return False
        return until_s is not None

    def _forget(self, key_id: KeyId) -> None:
        self._cache = {d: cached for d, cached in self._cache.items() if cached.kept.key.id != key_id}

    def _note_use(self, key: Key) -> None:
        now_s = self._clock.now()
        if key.last_used_s is None or now_s - key.last_used_s >= _USE_GRAIN_S:
            self._used_s[key.id] = now_s


def _end(now_s: float, lifetime_s: float | None, latest_s: float | None) -> float | None:
    if latest_s is not None and latest_s <= now_s:
        told = "The key or token you call with ends now, and so would this key. No key was made; call with a newer one."
        raise PreconditionFailed(told)
    ends = (None if lifetime_s is None else now_s + lifetime_s, latest_s)
    return min((each for each in ends if each is not None), default=None)


def _shorten(kept: dict[bytes, _Kept], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]


def _fault(key: Key | None, now_s: float) -> Unauthenticated | None:
    """Return why a key works no more; one that is not there any more ended long ago."""
    if key is None or key.revoked_s is not None:
        return Unauthenticated(f"This API key was withdrawn. Nothing was charged. {_ADVICE}", reason="KEY_REVOKED")
    if key.expires_s is not None and key.expires_s <= now_s:
        return Unauthenticated(f"This API key has expired. Nothing was charged. {_ADVICE}", reason="KEY_EXPIRED")
    return None
