"""Who is calling: keys are made, listed, withdrawn and recognised here. A withdrawal made here works at once."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from libs.clock import Clock
from libs.errors import Unauthenticated, Unavailable
from libs.ids import KeyId, TenantId, new_key_id
from services.ratelimiter import agent, keys
from services.ratelimiter.accounts import Accounts, KeptKey, Key

logger = logging.getLogger(__name__)

_CACHED_S = 3.0  # a key that another process withdrew works no longer than this
_CACHED_KEYS = 10_000
_WRITE_USE_EVERY_S = 10.0
_USE_GRAIN_S = 60.0  # "last used" is right to the minute
_ADVICE = "Send `Authorization: Bearer dk_…` with a key of `darkroom keys create`, or no Authorization at all."


@dataclass(frozen=True, slots=True)
class _Cached:
    kept: KeptKey
    until_s: float


class Keyring:
    """Recognises keys through a cache of seconds; lookups are by hash, compared in constant time."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts, self._clock = accounts, clock
        self._cache: dict[bytes, _Cached] = {}  # oldest first
        self._used_s: dict[KeyId, float] = {}

    async def authenticate(self, secret: str) -> Key:
        """Return the key of a secret. Raises Unauthenticated for one that is malformed, unknown or withdrawn."""
        if not keys.is_well_formed(secret):
            raise Unauthenticated(f"This is not an API key. Nothing was charged. {_ADVICE}")
        digest = keys.digest(secret)
        kept = await self._lookup(digest)
        if kept is None or not hmac.compare_digest(kept.digest, digest):
            raise Unauthenticated(f"This API key is not known here. Nothing was charged. {_ADVICE}")
        if kept.key.revoked_s is not None:
            raise Unauthenticated(f"This API key was withdrawn. Nothing was charged. {_ADVICE}")
        self._note_use(kept.key)
        return kept.key

    async def create(self, tenant_id: TenantId, tier: str, name: str) -> tuple[Key, str]:
        """Make a key; returns it and its secret, which is kept nowhere."""
        secret = keys.new_secret()
        key = Key(new_key_id(), tenant_id, tier, keys.prefix_of(secret), name, created_s=self._clock.now())
        await self._accounts.add(KeptKey(key, keys.digest(secret)))
        logger.info("made a key", extra={"key_id": key.id, "tenant_id": tenant_id})
        return key, secret

    async def list(self, tenant_id: TenantId | None) -> Sequence[Key]:
        """Return the keys of a tenant, or of all, oldest first."""
        return await self._accounts.list(tenant_id)

    async def revoke(self, key_id: KeyId) -> Key:
        """Withdraw a key; the next call with it is refused. Raises NotFound."""
        key = await self._accounts.revoke(key_id, self._clock.now())
        self._cache = {d: cached for d, cached in self._cache.items() if cached.kept.key.id != key_id}
        logger.info("withdrew a key", extra={"key_id": key_id, "tenant_id": key.tenant_id})
        return key

    async def run(self) -> None:
        """Write down now and then when keys were last used; run until cancelled."""
        await agent.repeat("the key log", self._clock, _WRITE_USE_EVERY_S, self.write_use)

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
        self._cache.pop(digest, None)
        kept = await self._accounts.find(digest)
        if kept is not None:
            # Counted from the question: a withdrawal that came while it was answered is seen as soon.
            self._cache[digest] = _Cached(kept, asked_s + _CACHED_S)
            while len(self._cache) > _CACHED_KEYS:
                del self._cache[next(iter(self._cache))]
        return kept

    def _note_use(self, key: Key) -> None:
        now_s = self._clock.now()
        if key.last_used_s is None or now_s - key.last_used_s >= _USE_GRAIN_S:
            self._used_s[key.id] = now_s
