"""Addresses: what counts as one, and which network it is in. Pure."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

from libs.ids import TenantId
from services.ratelimiter.strangers.ages import PREFIX

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

UNKNOWN = "unknown"
AROUND = "@"  # between what stands for an address and for the network around it, where there is one
_HOST_BITS, _NETWORK_BITS = {4: 32, 6: 64}, {4: 24, 6: 48}


def tenant_at(address: str) -> TenantId:
    """Return the tenant of everybody without a cookie at a counted address."""
    return TenantId(PREFIX + address)


def counted(address: str) -> str:
    """Return what is counted as one address, in one spelling.

    Of IPv6 the network counts: whoever has one address has the other 2^64 of its /64 as well.
    """
    return _prefix(address, _HOST_BITS)


def network(address: str) -> str:
    """Return the network of an address, in which one person's devices come and go: /24, of IPv6 /48."""
    return _prefix(address, _NETWORK_BITS)


def around(address: str) -> str:
    """Return the network around what is counted as one address, where a customer is given all of it; empty for IPv4.

    Of IPv6 many are given a /48: of that they have 65,536 of what is counted.
    """
    plain = parsed(address)
    return "" if plain is None or plain.version == 4 else network(address)


def network_of(pseudonym: str) -> str:
    """Return what stands for the network around an address, of what stands for both; empty where there is none."""
    return pseudonym.partition(AROUND)[2]


def parsed(address: str) -> Address | None:
    """Return an address without its zone, one of IPv4 as such also where it is written in IPv6; None for what is none."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _prefix(address: str, bits: dict[int, int]) -> str:
    plain = parsed(address)
    if plain is None:
        return UNKNOWN
    found = ipaddress.ip_network(f"{plain}/{bits[plain.version]}", strict=False)
    return str(found.network_address if found.prefixlen == found.max_prefixlen else found)
