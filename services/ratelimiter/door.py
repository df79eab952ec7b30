"""Who is calling and what may they still spend: asked for every request, charged for none.

A denied reservation is the gateway's to tell; here only those are refused who cannot say who they are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from libs.errors import Unauthenticated
from libs.ids import KeyId, TenantId
from services.ratelimiter.headers import Header
from services.ratelimiter.keyring import Keyring
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.meters import Meters
from services.ratelimiter.policy import ANONYMOUS

_SCHEME = "bearer"
_NO_KEY = KeyId("")
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody known; `key_id` is empty for a caller without a key."""

    tenant_id: TenantId
    tier: str
    key_id: KeyId = _NO_KEY


@dataclass(frozen=True, slots=True)
class Answer:
    """The caller, or why nobody was recognised; the headers tell the limits of the caller, else of the address."""

    caller: Caller
    headers: Sequence[Header]
    refusal: Unauthenticated | None = None


class Door:
    """Recognises callers by their key, or by their address when they show none."""

    def __init__(self, keyring: Keyring, limiter: Limiter, meters: Meters) -> None:
        self._keyring, self._limiter, self._meters = keyring, limiter, meters

    async def check(self, authorization: str, address: str) -> Answer:
        """Return who calls. `authorization` is the header's value, `address` the trusted one of the client."""
        caller, refusal = anonymous(address), None
        if authorization:
            try:
                caller = await self._recognise(authorization)
            except Unauthenticated as error:
                refusal = error
                self._meters.refused(error.reason)
        seen = await self._limiter.peek(caller.tenant_id, caller.tier)
        headers = [header for header in seen.headers if header[0] != "retry-after"]  # nothing was denied here
        return Answer(caller, headers, refusal)

    async def _recognise(self, authorization: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            told = "Authorization must be `Bearer dk_…`. Nothing was charged; leave it out to call without a key."
            raise Unauthenticated(told)
        key = await self._keyring.authenticate(secret.strip())
        return Caller(key.tenant_id, key.tier, key.id)


def anonymous(address: str) -> Caller:
    """Return the caller without a key at an IP address, in one spelling.

    Of IPv6 the network counts: whoever has one address has the other 2^64 of its /64 as well.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Caller(TenantId("anon:unknown"), ANONYMOUS)
    plain = getattr(parsed, "ipv4_mapped", None) or parsed
    if plain.version == 6:
        plain = ipaddress.ip_network((int(plain), _IPV6_PREFIX), strict=False)
    return Caller(TenantId(f"anon:{plain.compressed}"), ANONYMOUS)
