"""Callers who prove nothing."""

from __future__ import annotations

import ipaddress

from libs import scopes
from libs.ids import TenantId
from services.ratelimiter.callers import Caller, Question
from services.ratelimiter.policy import ANONYMOUS

_IPV6_PREFIX = 64


class ByAddress:
    """Takes them by the address that Envoy trusts."""

    async def recognise(self, question: Question) -> Caller:
        """Return the tenant of the address."""
        return self.at(question.address)

    def at(self, address: str) -> Caller:
        """Return the tenant of the address."""
        return Caller(TenantId(f"anon:{counted(address)}"), ANONYMOUS, scopes=scopes.STRANGERS)


def counted(address: str) -> str:
    """Return what is counted as one address, in one spelling.

    Of IPv6 the network counts: whoever has one address has the other 2^64 of its /64 as well.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    plain = getattr(parsed, "ipv4_mapped", None) or parsed
    if plain.version == 6:
        plain = ipaddress.ip_network((int(plain), _IPV6_PREFIX), strict=False)
    return str(plain.compressed)
