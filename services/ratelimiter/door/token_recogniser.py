"""Callers who show a token of an identity provider. Envoy has checked it; here it is decided whom it stands for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from libs import scopes
from libs.clock import Clock
from libs.errors import DarkroomError, Unauthenticated, Unavailable
from libs.ids import KeyId, TenantId
from libs.scopes import Scopes
from services.ratelimiter.door.callers import Caller, Claims, Question
from services.ratelimiter.keys.accounts import Accounts
from services.ratelimiter.tenants import names as tenant_names

_FREE = "free"
_CACHED_S, _CACHED_TENANTS = 3.0, 10_000
_KEYS_PART = "Jwks"  # of Envoy's words for what is wrong with the issuer's keys, not with the token
_NO_SUCH_KEY = "to match"
_EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Which claims say what, and the tiers that a token may give to a tenant that is new."""

    tenant: str = "tenant"
    tier: str = "tier"
    scope: str = "scope"
    tiers: frozenset[str] = frozenset()


class ByToken:
    """Recognises the tenant that a checked token names. A tenant that is new is made, an old one keeps its tier."""

    def __init__(self, accounts: Accounts, names: ClaimNames, clock: Clock) -> None:
        self._accounts, self._names, self._clock = accounts, names, clock
        self._tiers: dict[TenantId, tuple[str, float]] = {}  # with the time until which they are believed

    async def recognise(self, question: Question) -> Caller | None:
        """Return the tenant of the token; None without one. Raises Unauthenticated, Unavailable."""
        if question.claims is None:
            if _is_token(question.authorization):
                raise _refusal(question.fault)
            return None
        tenant_id = self._tenant(question.claims)
        tier = await self._tier(tenant_id, question.claims)
        who, allowed = _who(question.claims), self._allowed(question.claims)
        return Caller(tenant_id, tier, who, allowed, ends_s=question.token_ends_s)

    def _tenant(self, claims: Claims) -> TenantId:
        named = claims.get(self._names.tenant, ())
        problem = tenant_names.problem(named[0]) if len(named) == 1 else "must be there, as one text"
        if problem:
            told = f"This token names no tenant: its claim {self._names.tenant} {problem}. Nothing was charged."
            raise Unauthenticated(told, reason="TOKEN_INVALID")
        return TenantId(named[0])

    async def _tier(self, tenant_id: TenantId, claims: Claims) -> str:
        now_s = self._clock.monotonic()
        known = self._tiers.pop(tenant_id, None)
        if known is None or known[1] <= now_s:
            asked = claims.get(self._names.tier, ())
            first = asked[0] if len(asked) == 1 and asked[0] in self._names.tiers else _FREE
            known = await self._accounts.admit(tenant_id, first, self._clock.now()), now_s + _CACHED_S
        self._tiers[tenant_id] = known
        while len(self._tiers) > _CACHED_TENANTS:
            del self._tiers[next(iter(self._tiers))]
        return known[0]

    def _allowed(self, claims: Claims) -> Scopes:
        if self._names.scope not in claims:
            return scopes.USUAL
        known, _ = scopes.parse(name for text in claims[self._names.scope] for name in text.split())
        return known


def _who(claims: Claims) -> KeyId:
    """Return what stands in for the id of a key: usage can be told apart by person without keeping a name."""
    subject = " ".join(claims.get("sub", ()))
    return KeyId(f"tok_{hashlib.sha256(subject.encode()).hexdigest()[:24]}")


def _is_token(authorization: str) -> bool:
    scheme, _, value = authorization.partition(" ")
    return scheme.lower() == "bearer" and value.count(".") == 2


def _refusal(fault: str) -> DarkroomError:
    if fault.startswith(_KEYS_PART) and _NO_SUCH_KEY not in fault:
        told = "Tokens cannot be checked right now: the issuer's keys cannot be read. Nothing was charged."
        return Unavailable(told, reason="LIMITER_DEGRADED", metadata={"part": "token keys"}, retry_after_s=1.0)
    if not fault:
        return Unauthenticated(
            "Tokens are not taken here: send an API key. Nothing was charged.", reason="TOKEN_INVALID"
        )
    reason = "TOKEN_EXPIRED" if _EXPIRED in fault else "TOKEN_INVALID"
    return Unauthenticated(f"This token is refused: {fault}. Nothing was charged; get a new one.", reason=reason)
